// Graph: work of a stream, recorded once and enqueued again as a whole: one call of the host instead of one a kernel (a CUDA graph).
#ifndef LYCIA_RUNTIME_DEVICE_GRAPH_H_
#define LYCIA_RUNTIME_DEVICE_GRAPH_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "runtime/device/device.h"

namespace lycia {

class Graph {
 public:
  virtual ~Graph() = default;
  // On the stream it was captured from, or another of its device.
  virtual void Launch(Stream& stream) = 0;
};

// Whether the stream's device has graphs: kCuda.
bool HasGraphs(const Stream& stream);

// What `enqueue` puts on the stream becomes the graph instead of being done. Every address and number that it passes is kept as it is. It
// must neither record events, nor wait, nor allocate, and should have run before, so that what is made at a first call is there. Allocates.
// The failure of the stream, if `enqueue` fails it.
StatusOr<std::unique_ptr<Graph>> CaptureGraph(Stream& stream, absl::FunctionRef<void()> enqueue);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_DEVICE_GRAPH_H_
