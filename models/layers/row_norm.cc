#include "models/layers/row_norm.h"

#include "kernels/norm/layer_norm.h"
#include "kernels/norm/rms_norm.h"

namespace lycia {

void RowNorm::Plan(const GptConfig& config, const std::string& name, const TensorSpec& x, LayerPlan& plan) {
  rms_ = config.rms_norm();
  eps_ = config.norm_eps;
  const TensorSpec rows{plan.statistics(), {x.shape.dim(0), x.shape.dim(1)}};
  gamma_ = plan.Parameter({.name = name + ".weight", .shape = {config.hidden}, .initial = Initial::kOne});
  if (!rms_) {
    beta_ = plan.Parameter({.name = name + ".bias", .shape = {config.hidden}});
    mean_ = plan.Keep(rows, KeepUntil::kWeight);
  }
  rstd_ = plan.Keep(rows, KeepUntil::kWeight);
}

void RowNorm::Forward(const LayerContext& context, const Tensor& out) const {
  const Tensor &in = context.in[0], &gamma = context.parameter(gamma_), &rstd = context.keep(rstd_);
  if (rms_) return RmsNormForward(context.stream(), {.in = in, .gamma = gamma, .out = out, .rstd = rstd, .eps = eps_});
  LayerNormForward(
      context.stream(),
      {.in = in, .gamma = gamma, .beta = context.parameter(beta_), .out = out, .mean = context.keep(mean_), .rstd = rstd, .eps = eps_});
}

void RowNorm::BackwardInput(const LayerContext& context, const ConstTensor& dout, bool accumulate) const {
  const Tensor &in = context.in[0], &gamma = context.parameter(gamma_), &rstd = context.keep(rstd_), &din = context.din[0];
  Stream& stream = context.stream();
  if (rms_) {
    return RmsNormBackwardInput(stream, {.dout = dout, .in = in, .gamma = gamma, .rstd = rstd, .din = din, .accumulate = accumulate});
  }
  LayerNormBackwardInput(
      stream, {.dout = dout, .in = in, .gamma = gamma, .mean = context.keep(mean_), .rstd = rstd, .din = din, .accumulate = accumulate});
}

void RowNorm::BackwardWeight(const LayerContext& context, const ConstTensor& dout) const {
  const Tensor &in = context.in[0], &rstd = context.keep(rstd_), &dgamma = context.gradient(gamma_);
  Stream& stream = context.stream();
  if (rms_) return RmsNormBackwardWeight(stream, {.dout = dout, .in = in, .rstd = rstd, .dgamma = dgamma});
  LayerNormBackwardWeight(
      stream, {.dout = dout, .in = in, .mean = context.keep(mean_), .rstd = rstd, .dgamma = dgamma, .dbeta = context.gradient(beta_)});
}

}  // namespace lycia
