#include "models/layers/grid_image_head.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> GridImageHead::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const Grid& grid = *options_.grid;
  LYCIA_CHECK(in[0] == options_.in.Part(grid, plan.compute())) << in[0].ToString() << " ";
  const auto declare = [&](const GridParameter& parameter) { return Declare(grid, parameter, plan); };
  GridImages features = options_.in;
  if (options_.average) {
    features.height = features.width = 1;
    dfeatures_ = plan.Scratch(features.Part(grid, plan.compute()));
  }
  GridDense::Options dense = options_.dense;
  dense.early_output_gradient = true;
  LYCIA_ASSIGN_OR_RETURN(const GridImages logits, dense_.Plan(grid, features, dense, declare, plan, &scratch_));
  cross_entropy_ = GridCrossEntropy(grid, logits.part_samples(grid), dense_.part_units(), dense.units, /*length=*/1, plan, &scratch_,
                                    logits.channels_along);
  plan.ReadLabels({DType::kI32, {options_.in.samples / grid.size(Axis::kZ), 1}});
  scratch_.Declare(plan);
  return std::vector<TensorSpec>{};
}

PoolShape GridImageHead::WholeImage() const {
  const GridImages& in = options_.in;
  return {.N = in.part_samples(*options_.grid),
          .C = in.part_channels(*options_.grid),
          .height = {.in = in.height, .filter = in.height},
          .width = {.in = in.width, .filter = in.width}};
}

void GridImageHead::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor features = dense_.Input(context), logits = dense_.OutputGradient(context);
  if (options_.average) {
    AveragePoolForward(stream, {.shape = WholeImage(), .in = context.in[0], .out = features});
  } else {
    stream.Copy(features.data, context.in[0].data, features.bytes());
  }
  dense_.Forward(context, logits);
  if (const Tensor& wanted = context.stage->logits; wanted.data != nullptr) stream.Copy(wanted.data, logits.data, logits.bytes());
  cross_entropy_.Forward(context, logits, context.labels);
}

Tensor GridImageHead::FeatureGradient(const LayerContext& context) const {
  return options_.average ? context.temporary(dfeatures_) : context.din[0];
}

void GridImageHead::BackwardAverage(const LayerContext& context) const {
  if (!options_.average) return;
  AveragePoolBackward(context.stream(), {.shape = WholeImage(), .dout = FeatureGradient(context), .din = context.din[0]});
}

void GridImageHead::BackwardInput(const LayerContext& context) const {
  dense_.BackwardInput(context, FeatureGradient(context));
  BackwardAverage(context);
}

void GridImageHead::Backward(const LayerContext& context) const {
  dense_.Backward(context, FeatureGradient(context));
  BackwardAverage(context);
}

}  // namespace lycia
