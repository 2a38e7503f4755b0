// Stage: the part of a model that one worker computes for one pipe, as the executor sees it.
//
// A stage owns no memory. Per micro-batch in flight it uses one stash slot (what forward keeps for the backward); transient memory is
// shared by all stages of a worker, because one compute stream runs one call at a time. Activations and gradients between stages are one
// contiguous region each (PackedBytes of the tensor list).
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/layer/layer.h"
#include "runtime/core/tensor.h"

namespace lycia {

// Bytes of a list of tensors laid one after the other, each padded to 64 bytes.
std::int64_t PackedBytes(std::span<const TensorSpec> specs);

class Stage {
 public:
  virtual ~Stage() = default;

  virtual std::span<const TensorSpec> inputs() const = 0;   // tokens [samples, T] i32 on the first stage
  virtual std::span<const TensorSpec> outputs() const = 0;  // empty on the last stage
  virtual bool reads_labels() const = 0;

  // Where a load or a receive puts the stage's input and labels for the micro-batch in `slot`.
  virtual void* input(int slot) = 0;
  virtual void* labels(int slot) = 0;

  // out, din: PackedBytes(outputs()), PackedBytes(inputs()); nullptr where the stage has none (last stage's output, first stage's
  // gradient).
  virtual void Forward(StageContext& context, int slot, void* out) = 0;
  // Input and weight gradient, layer by layer, so that what one layer hands over is recycled by the next.
  virtual void Backward(StageContext& context, int slot, const void* dout, void* din) = 0;
  // The same in two calls; only on a stage made with split_backward. The slot stays in use until BackwardWeight has run.
  virtual void BackwardInput(StageContext& context, int slot, const void* dout, void* din) = 0;
  virtual void BackwardWeight(StageContext& context, int slot) = 0;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_H_
