// Memory for constants that belong to nobody's plan, on the device of a stream.
#ifndef LYCIA_RUNTIME_DEVICE_ALLOCATE_BESIDE_H_
#define LYCIA_RUNTIME_DEVICE_ALLOCATE_BESIDE_H_

#include <cstdint>

#include "runtime/device/device.h"

namespace lycia {

// Zeroed memory of the stream's device; for set-up, like Device::Allocate. `stream` must be of kind kCuda.
StatusOr<Buffer> AllocateBeside(Stream& stream, std::int64_t bytes);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_DEVICE_ALLOCATE_BESIDE_H_
