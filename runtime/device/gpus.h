// How many GPUs this process sees.
#ifndef LYCIA_RUNTIME_DEVICE_GPUS_H_
#define LYCIA_RUNTIME_DEVICE_GPUS_H_

#include "runtime/core/status.h"

namespace lycia {

// At least 1. Unavailable, with the reason, when the build has no CUDA or the machine no GPU or driver.
StatusOr<int> CountGpus();

namespace cuda {
StatusOr<int> CountGpus();  // in builds with CUDA
}  // namespace cuda

}  // namespace lycia

#endif  // LYCIA_RUNTIME_DEVICE_GPUS_H_
