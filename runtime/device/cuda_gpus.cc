#include <cuda_runtime_api.h>

#include "runtime/device/cuda_error.h"
#include "runtime/device/gpus.h"

namespace lycia::cuda {

StatusOr<int> CountGpus() {
  int count = 0;
  if (const Status status = LYCIA_CUDA_STATUS(cudaGetDeviceCount(&count), "needs an NVIDIA driver"); !status.ok()) {
    return absl::UnavailableError(absl::StrCat("no GPU: ", status.message()));
  }
  if (count == 0) return absl::UnavailableError("no GPU: the driver shows none (CUDA_VISIBLE_DEVICES may hide them)");
  return count;
}

}  // namespace lycia::cuda
