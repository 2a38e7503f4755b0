#include "runtime/device/allocate_beside.h"

#include "bazel/build_config.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_device.h"

namespace lycia {

StatusOr<Buffer> AllocateBeside(Stream& stream, std::int64_t bytes) {
  LYCIA_CHECK(stream.kind() == DeviceKind::kCuda);
  if constexpr (kCudaEnabled) {
    return cuda::AllocateBeside(stream, bytes);
  } else {
    return absl::UnavailableError("no GPU: this build has no CUDA");
  }
}

}  // namespace lycia
