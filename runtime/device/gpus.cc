#include "runtime/device/gpus.h"

#include "bazel/build_config.h"

namespace lycia {

StatusOr<int> CountGpus() {
  if constexpr (kCudaEnabled) {
    return cuda::CountGpus();
  } else {
    return absl::UnavailableError("no GPU: this build has no CUDA; install the toolkit and build again, or use device = \"cpu\"");
  }
}

}  // namespace lycia
