#include <utility>

#include "parallel/layer/layer.h"
#include "runtime/core/check.h"

namespace lycia {

ParameterHandle LayerPlan::Parameter(ParameterSpec spec) {
  parameters_.push_back(std::move(spec));
  return {static_cast<int>(parameters_.size()) - 1};
}

KeptHandle LayerPlan::Keep(const TensorSpec& spec, KeepUntil until) {
  kept_.push_back({spec, until});
  return {static_cast<int>(kept_.size()) - 1};
}

void LayerPlan::KeepInput(KeepUntil until) {
  keeps_input_ = true;
  keeps_input_until_ = until;
}

HandoffHandle LayerPlan::Handoff(const TensorSpec& spec) {
  handoffs_.push_back(spec);
  return {static_cast<int>(handoffs_.size()) - 1};
}

ScratchHandle LayerPlan::Scratch(const TensorSpec& spec) {
  scratch_.push_back({spec, false});
  return {static_cast<int>(scratch_.size()) - 1};
}

ScratchHandle LayerPlan::Workspace(std::int64_t bytes) {
  scratch_.push_back({{DType::kU8, {bytes}}, true});
  return {static_cast<int>(scratch_.size()) - 1};
}

PackedHandle LayerPlan::Packed(ParameterHandle weight, bool transposed) {
  const Shape& shape = parameters_[static_cast<std::size_t>(weight.index)].shape;
  LYCIA_CHECK_EQ(shape.rank(), 2);
  return Packed(weight, {.rows = shape.dim(0), .columns = shape.dim(1), .ld = shape.dim(1)}, transposed);
}

PackedHandle LayerPlan::Packed(ParameterHandle weight, const WeightBlock& block, bool transposed) {
  packed_.push_back({.weight = weight, .transposed = transposed, .block = block});
  return {static_cast<int>(packed_.size()) - 1};
}

PackedConvHandle LayerPlan::PackedConv(ParameterHandle weight, ConvUse use, const ConvShape& shape) {
  packed_convs_.push_back({.weight = weight, .use = use, .shape = shape});
  return {static_cast<int>(packed_convs_.size()) - 1};
}

StateHandle LayerPlan::State(StateSpec spec) {
  states_.push_back(std::move(spec));
  return {static_cast<int>(states_.size()) - 1};
}

ReuseHandle LayerPlan::Reuse(ReuseSpec spec) {
  reuses_.push_back(std::move(spec));
  return {static_cast<int>(reuses_.size()) - 1};
}

TransferHandle LayerPlan::Transfer(const TransferSpec& spec) {
  transfers_.push_back(spec);
  return {static_cast<int>(transfers_.size()) - 1};
}

void LayerPlan::ReadLabels(const TensorSpec& spec) {
  reads_labels_ = true;
  labels_ = spec;
}

}  // namespace lycia
