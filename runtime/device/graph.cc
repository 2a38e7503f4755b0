#include "runtime/device/graph.h"

#include "bazel/build_config.h"
#include "runtime/device/cuda_graph.h"

namespace lycia {

bool HasGraphs(const Stream& stream) { return kCudaEnabled && stream.kind() == DeviceKind::kCuda; }

StatusOr<std::unique_ptr<Graph>> CaptureGraph(Stream& stream, absl::FunctionRef<void()> enqueue) {
  if constexpr (kCudaEnabled) {
    if (HasGraphs(stream)) return cuda::CaptureGraph(stream, enqueue);
  }
  return absl::UnavailableError("only CUDA devices have graphs");
}

}  // namespace lycia
