#include "models/layers/conv_layer.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> ConvLayer::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  TensorSpec x = in[0];
  reads_bytes_ = x.dtype == DType::kU8;
  if (reads_bytes_) {
    x.dtype = plan.compute();
    normalised_ = plan.Keep(x, KeepUntil::kWeight);
    options_.input_gradient = false;
    unit_ = ConvUnit(options_);
  } else {
    plan.KeepInput(KeepUntil::kWeight);
  }
  if (options_.relu) plan.KeepOutput();
  LYCIA_ASSIGN_OR_RETURN(const TensorSpec out, unit_.Plan(x, plan));
  return std::vector<TensorSpec>{out};
}

void ConvLayer::Forward(const LayerContext& context) const {
  if (reads_bytes_) {
    NormalizeImages(context.stream(),
                    {.in = context.in[0], .mean = config_.mean, .deviation = config_.deviation, .out = context.keep(normalised_)});
  }
  unit_.Forward(context, Input(context), {}, context.out[0]);
}

void ConvLayer::BackwardInput(const LayerContext& context) const {
  unit_.BackwardInput(context, {.dout = context.dout[0], .out = context.out[0], .din = context.din.empty() ? Tensor{} : context.din[0]});
}

void ConvLayer::BackwardWeight(const LayerContext& context) const { unit_.BackwardWeight(context, Input(context)); }

}  // namespace lycia
