// Layer: says its memory and its gradients out loud. No tape.
//
// A layer is planned once (shapes known, all memory declared) and immutable after; it holds no micro-batch. Each call gets a LayerContext
// in which every declared tensor is already bound to memory. For one micro-batch the calls are
//   Forward;  then BackwardInput;  then BackwardWeight, much later where a schedule splits the backward; or Backward, which is both.
// Forward may run again before the backward (recompute) and must then give the same bits.
#ifndef LYCIA_PARALLEL_LAYER_LAYER_H_
#define LYCIA_PARALLEL_LAYER_LAYER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/gemm/packed_matrix.h"
#include "parallel/layer/parameter.h"
#include "parallel/layer/reuse.h"
#include "parallel/layer/state.h"
#include "parallel/layer/transfer.h"
#include "runtime/core/status.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// How long a kept tensor is needed: until BackwardInput of its micro-batch has run, or until BackwardWeight has.
enum class KeepUntil : std::uint8_t { kInput, kWeight };

// Handles of what a plan has declared; each counts from 0 within its layer.
struct ParameterHandle {
  int index = -1;
};
struct KeptHandle {
  int index = -1;
};
struct HandoffHandle {
  int index = -1;
};
struct ScratchHandle {
  int index = -1;
};
struct PackedHandle {
  int index = -1;
};
struct PackedConvHandle {
  int index = -1;
};
struct StateHandle {
  int index = -1;
};
struct ReuseHandle {
  int index = -1;
};

// What one layer asks for. Filled by Layer::Plan, read by Stage.
//
// The first dimension of every tensor but a workspace is the samples of the micro-batch. A call may be for a part of them (a schedule that
// divides micro-batches): then every tensor is a view of the part's samples, and a layer takes their number from the tensors at hand.
class LayerPlan {
 public:
  explicit LayerPlan(DType compute) : compute_(compute) {}
  DType compute() const { return compute_; }                      // of activations and parameters: bf16, f32 or f64
  DType statistics() const { return ArithmeticDType(compute_); }  // of numbers a row, and of gradients of parameters: f32 for bf16

  ParameterHandle Parameter(ParameterSpec spec);
  // Made by Forward, read by the backward.
  KeptHandle Keep(const TensorSpec& spec, KeepUntil until);
  // The layer's input is read by its backward (and may be overwritten by the layer itself, which then owns it).
  void KeepInput(KeepUntil until);
  // The layer's output is read by its BackwardInput; the next layer must not overwrite it.
  void KeepOutput() { keeps_output_ = true; }
  // Made by BackwardInput, read by BackwardWeight.
  HandoffHandle Handoff(const TensorSpec& spec);
  // Alive within one call.
  ScratchHandle Scratch(const TensorSpec& spec);
  // The same, `bytes` of any content: u8, whole in every call.
  ScratchHandle Workspace(std::int64_t bytes);
  // A copy of a weight [k, n], or of its transpose, in the order in which Gemm reads it (GemmArgs::packed_b), made anew when weights have
  // changed. Stages may do without: the weight itself must be given to Gemm too.
  PackedHandle Packed(ParameterHandle weight, bool transposed);
  // Of rows x columns of the parameter's memory from an offset, in elements.
  struct WeightBlock {
    std::int64_t offset = 0, rows = 0, columns = 0, ld = 0;
  };
  PackedHandle Packed(ParameterHandle weight, const WeightBlock& block, bool transposed);
  // The same of a filter [K, R, S, C / groups], in the order in which a convolution reads it.
  PackedConvHandle PackedConv(ParameterHandle weight, ConvUse use, const ConvShape& shape);
  // Parts of a micro-batch are then refused: they would observe too few samples.
  StateHandle State(StateSpec spec);
  // Rows that may repeat.
  ReuseHandle Reuse(ReuseSpec spec);
  // Brought from other ranks, or sent to them, while others compute. Layers begin theirs in the order of declaration, and in the
  // backward in reverse.
  TransferHandle Transfer(const TransferSpec& spec);
  // The layer reads labels [samples, T] i32 (-1: no loss) in Forward and BackwardInput.
  void ReadLabels(const TensorSpec& spec);
  // Matrix-multiply and attention FLOPs of Forward for one micro-batch, in products with weights and in those of activations alone. The
  // first cost as much again in each of BackwardInput and BackwardWeight, the second twice as much in BackwardInput.
  void CountFlops(double with_weights, double of_activations = 0) {
    weight_flops_ += with_weights;
    activation_flops_ += of_activations;
  }

  struct Kept {
    TensorSpec spec;
    KeepUntil until;
  };
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  const std::vector<Kept>& kept() const { return kept_; }
  const std::vector<TensorSpec>& handoffs() const { return handoffs_; }
  struct ScratchSpec {
    TensorSpec spec;
    bool workspace;
  };
  const std::vector<ScratchSpec>& scratch() const { return scratch_; }
  struct PackedSpec {
    ParameterHandle weight;
    bool transposed;
    WeightBlock block;
    std::int64_t k() const { return transposed ? block.columns : block.rows; }  // of what is packed
    std::int64_t n() const { return transposed ? block.rows : block.columns; }
  };
  const std::vector<PackedSpec>& packed() const { return packed_; }
  struct PackedConvSpec {
    ParameterHandle weight;
    ConvUse use;
    ConvShape shape;
  };
  const std::vector<PackedConvSpec>& packed_convs() const { return packed_convs_; }
  const std::vector<StateSpec>& states() const { return states_; }
  const std::vector<ReuseSpec>& reuses() const { return reuses_; }
  const std::vector<TransferSpec>& transfers() const { return transfers_; }
  bool keeps_input() const { return keeps_input_; }
  bool keeps_output() const { return keeps_output_; }
  KeepUntil keeps_input_until() const { return keeps_input_until_; }
  bool reads_labels() const { return reads_labels_; }
  const TensorSpec& labels() const { return labels_; }
  double forward_flops() const { return weight_flops_ + activation_flops_; }
  double input_flops() const { return weight_flops_ + 2 * activation_flops_; }
  double weight_flops() const { return weight_flops_; }

 private:
  DType compute_;
  std::vector<ParameterSpec> parameters_;
  std::vector<Kept> kept_;
  std::vector<TensorSpec> handoffs_;
  std::vector<ScratchSpec> scratch_;
  std::vector<PackedSpec> packed_;
  std::vector<PackedConvSpec> packed_convs_;
  std::vector<StateSpec> states_;
  std::vector<ReuseSpec> reuses_;
  std::vector<TransferSpec> transfers_;
  bool keeps_input_ = false, keeps_output_ = false;
  KeepUntil keeps_input_until_ = KeepUntil::kInput;
  bool reads_labels_ = false;
  TensorSpec labels_;
  double weight_flops_ = 0, activation_flops_ = 0;
};

// Samples of the global batch, by index within the step.
struct SampleRange {
  std::int64_t begin = 0;
  std::int64_t count = 0;

  bool operator==(const SampleRange&) const = default;
};

// What is the same for every layer of a stage in one call.
struct StageContext {
  Stream* stream = nullptr;
  std::uint64_t seed = 0;
  std::int64_t step = 0;            // from 0; layers read it by random_step
  bool training = true;             // dropout on, gradients wanted
  SampleRange samples;              // global indices of this micro-batch, or of the part at hand
  double gradient_scale = 1;        // 1 / loss tokens of the global batch
  double* sample_losses = nullptr;  // [samples.count] f64: sum of token losses of each sample; written by the last layer
  double* sample_hits = nullptr;    // the same of labels whose logit is the largest, where the last layer tells
  Tensor logits;                    // when data is set: the last layer copies its logits here, [samples, T, V]

  // The step as part of a random key. Whoever asks enqueues other work in every step, which cannot be replayed (graph_stage.h).
  std::uint64_t random_step() const {
    step_was_read = true;
    return static_cast<std::uint64_t>(step);
  }
  mutable bool step_was_read = false;
};

// One layer's view of memory in one call. All tensors are bound; gradients of parameters are accumulated (+=).
//
// Gradients are not zeroed at the start of a step but when they are first asked for, so that the first micro-batch can write what later
// ones add to: a gradient that is marked fresh holds the last step's numbers and means zero.
struct LayerContext {
  StageContext* stage = nullptr;
  std::span<const Tensor> in, out;    // activations; out is readable in the backward only where the plan keeps it
  std::span<const Tensor> dout, din;  // their gradients (=); din is empty where the input has none (tokens)
  std::span<const Tensor> parameters, gradients, kept, handoffs, scratch;
  Tensor labels;
  Transfers* transfers = nullptr;
  int layer = 0;                        // of the stage
  std::span<const PackedMatrix> packs;  // empty: this stage holds no packed weights
  std::span<bool* const> fresh;         // [parameter], null or absent: never fresh
  std::span<const PackedConvWeight> conv_packs;
  // Observations are [rows, ...]: those of the samples at hand in Forward (no data in an evaluation), of the whole global batch in
  // MergeStates.
  std::span<const Tensor> states, observations;
  std::span<const ReuseSlot* const> reuses;  // null or absent: dense
  bool recomputes = false;                   // Forward runs again: what it finds is counted already

  Stream& stream() const { return *stage->stream; }
  const Tensor& parameter(ParameterHandle h) const { return parameters[static_cast<std::size_t>(h.index)]; }
  // To be added to.
  const Tensor& gradient(ParameterHandle h) const {
    const Tensor& gradient = gradients[static_cast<std::size_t>(h.index)];
    if (!AddsTo(h)) stream().Zero(gradient.data, gradient.bytes());
    return gradient;
  }
  // The same, to be added to, or to be overwritten whole where it is fresh.
  struct SumInto {
    Matrix c;
    bool accumulate;
  };
  SumInto gradient_sum(ParameterHandle h) const { return {AsMatrix(gradients[static_cast<std::size_t>(h.index)]), AddsTo(h)}; }
  PackedMatrix packed(PackedHandle h) const {
    return packs.empty() || h.index < 0 ? PackedMatrix{} : packs[static_cast<std::size_t>(h.index)];
  }
  PackedConvWeight packed(PackedConvHandle h) const {
    return conv_packs.empty() || h.index < 0 ? PackedConvWeight{} : conv_packs[static_cast<std::size_t>(h.index)];
  }
  ReuseSlot reuse(ReuseHandle h) const {
    const auto index = static_cast<std::size_t>(h.index);
    ReuseSlot slot = index < reuses.size() && reuses[index] != nullptr ? *reuses[index] : ReuseSlot();
    if (recomputes) slot.measures = nullptr;
    return slot;
  }
  const Tensor& state(StateHandle h) const { return states[static_cast<std::size_t>(h.index)]; }
  const Tensor& observation(StateHandle h) const { return observations[static_cast<std::size_t>(h.index)]; }
  const Tensor& keep(KeptHandle h) const { return kept[static_cast<std::size_t>(h.index)]; }
  const Tensor& handoff(HandoffHandle h) const { return handoffs[static_cast<std::size_t>(h.index)]; }
  const Tensor& temporary(ScratchHandle h) const { return scratch[static_cast<std::size_t>(h.index)]; }

 private:
  // Whether the gradient holds sums of this step; from now on it does.
  bool AddsTo(ParameterHandle h) const {
    const auto index = static_cast<std::size_t>(h.index);
    if (index >= fresh.size() || fresh[index] == nullptr || !*fresh[index]) return true;
    *fresh[index] = false;
    return false;
  }
};

class Layer {
 public:
  virtual ~Layer() = default;
  virtual const std::string& name() const = 0;
  // Once. InvalidArgument with the numbers where the shapes do not fit.
  virtual StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) = 0;
  virtual void Forward(const LayerContext& context) const = 0;
  virtual void BackwardInput(const LayerContext& context) const = 0;
  virtual void BackwardWeight(const LayerContext& context) const = 0;
  // Both, in any order that gives the same bits: where a transfer's weight gradient follows its input gradient, what either sends is under
  // way while the next is computed. Layers with transfers that send something back must keep to that order.
  virtual void Backward(const LayerContext& context) const {
    BackwardInput(context);
    BackwardWeight(context);
  }
  // Once a step, for a layer with states: folds what the step has observed into them.
  virtual void MergeStates(const LayerContext&) const {}
  // Starts what the transfer brings and puts each operation's event into the place, after Place::AwaitOthers where it writes to the place.
  // Called before the layer's own call, when its activations are not there yet; only for transfers that the layer has declared.
  virtual void Fetch(const LayerContext&, TransferHandle, TransferPlace&) const {}
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_LAYER_LAYER_H_
