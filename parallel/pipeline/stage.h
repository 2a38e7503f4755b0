// Stage: the part of a model that one worker computes for one pipe, as the executor sees it.
//
// A stage owns no memory. A micro-batch in flight has slots for what it keeps between its instructions (parallel/schedule/slots.h);
// transient memory is shared by all stages of a worker, because one compute stream runs one call at a time. Activations and gradients
// between stages are one contiguous region each (PackedBytes of the tensor list).
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/layer/layer.h"
#include "runtime/core/tensor.h"
#include "runtime/device/arena.h"

namespace lycia {

// One of `parts` equal parts of a tensor: dimension 0 is the samples, which `parts` divides.
TensorSpec PartOf(const TensorSpec& spec, int parts);

// What a tensor takes in a list of them, laid one after the other.
constexpr std::int64_t PaddedBytes(std::int64_t bytes) {
  return (bytes + ArenaPlan::kAlignment - 1) / ArenaPlan::kAlignment * ArenaPlan::kAlignment;
}
// Bytes of one such part of a list of tensors, each padded.
std::int64_t PackedBytes(std::span<const TensorSpec> specs, int parts = 1);

// Where a micro-batch keeps things, and which part of it a call is for. -1: none, as a weight gradient has no input slot.
struct StageSlots {
  int stash = -1, input = -1, handoff = -1;
  int part = 0, parts = 1;

  bool operator==(const StageSlots&) const = default;
};

class Stage {
 public:
  virtual ~Stage() = default;

  virtual std::span<const TensorSpec> inputs() const = 0;   // tokens [samples, T] i32 on the first stage
  virtual std::span<const TensorSpec> outputs() const = 0;  // empty on the last stage
  virtual bool reads_labels() const = 0;

  // Where a load puts the tokens (the first stage's input) and labels of the part.
  virtual void* input(const StageSlots& slots) = 0;
  virtual void* labels(const StageSlots& slots) = 0;

  // Copies the part's input from a message, packed as PackedBytes(inputs(), parts).
  virtual void TakeInput(Stream& stream, const StageSlots& slots, const void* message) = 0;

  // out, dout: PackedBytes(outputs(), parts); din: PackedBytes(inputs(), parts); nullptr where the stage has none (the last stage's output,
  // the first stage's gradient).
  virtual void Forward(StageContext& context, const StageSlots& slots, void* out) = 0;
  // Input and weight gradient, layer by layer, so that what one layer hands over is recycled by the next.
  virtual void Backward(StageContext& context, const StageSlots& slots, const void* dout, void* din) = 0;
  // The same in two calls; only on a stage that was planned for it.
  virtual void BackwardInput(StageContext& context, const StageSlots& slots, const void* dout, void* din) = 0;
  virtual void BackwardWeight(StageContext& context, const StageSlots& slots) = 0;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_H_
