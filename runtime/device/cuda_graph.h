// CaptureGraph on a CUDA stream.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_GRAPH_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_GRAPH_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "runtime/device/graph.h"

namespace lycia::cuda {

StatusOr<std::unique_ptr<Graph>> CaptureGraph(Stream& stream, absl::FunctionRef<void()> enqueue);

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_DEVICE_CUDA_GRAPH_H_
