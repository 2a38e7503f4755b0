#include "runtime/device/cuda_graph.h"

#include <cuda_runtime_api.h>

#include "runtime/device/cuda_error.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraphExec_t graph) : graph_(graph) {}
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  // CUDA keeps what still runs until it is done.
  ~CudaGraph() override { cudaGraphExecDestroy(graph_); }

  void Launch(Stream& stream) override {
    const StreamTarget target = TargetOf(stream);
    if (stream.ok()) stream.Fail(LYCIA_CUDA_STATUS(cudaGraphLaunch(graph_, target.stream), "a captured graph"));
  }

 private:
  const cudaGraphExec_t graph_;
};

}  // namespace

StatusOr<std::unique_ptr<Graph>> CaptureGraph(Stream& stream, absl::FunctionRef<void()> enqueue) {
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok()) return stream.status();
  // Other threads of the process, ranks and communication, go on with calls that this one must not make meanwhile.
  LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaStreamBeginCapture(target.stream, cudaStreamCaptureModeThreadLocal), "a graph"));
  enqueue();
  cudaGraph_t recorded = nullptr;
  const Status ended = LYCIA_CUDA_STATUS(cudaStreamEndCapture(target.stream, &recorded), "what was enqueued cannot be part of a graph");
  cudaGraphExec_t graph = nullptr;
  Status made = stream.ok() ? ended : stream.status();
  if (made.ok()) made = LYCIA_CUDA_STATUS(cudaGraphInstantiate(&graph, recorded, 0), "a graph");
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  if (!made.ok()) return made;
  return std::make_unique<CudaGraph>(graph);
}

}  // namespace lycia::cuda
