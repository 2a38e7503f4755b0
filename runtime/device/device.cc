#include "runtime/device/device.h"

#include "bazel/build_config.h"
#include "runtime/device/cuda_device.h"

namespace lycia {

StatusOr<std::unique_ptr<Device>> NewCudaDevice(int ordinal, [[maybe_unused]] const CudaOptions& options) {
  if constexpr (kCudaEnabled) {
    return cuda::NewDevice(ordinal, options);
  } else {
    return absl::UnavailableError(
        "no GPU: this build has no CUDA; install the toolkit (CUDA_HOME, else /usr/local/cuda) and build without --config=nocuda");
  }
}

}  // namespace lycia
