#include "models/layers/gpt_mlp.h"

#include <cmath>

#include "kernels/gemm/gemm.h"
#include "kernels/norm/layer_norm.h"
#include "models/layers/dropout_mask.h"
#include "models/layers/weight_gradient.h"

namespace lycia {

GptMlp::GptMlp(const GptConfig& config, int block)
    : config_(config), prefix_(StrCat("h.", block, ".")), name_(prefix_ + "mlp"), dropout_output_("dropout/" + prefix_ + "mlp_out") {}

StatusOr<std::vector<TensorSpec>> GptMlp::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const TensorSpec& x = in[0];
  const std::int64_t B = x.shape.dim(0), T = x.shape.dim(1), C = config_.hidden, F = config_.ffn;
  const double std = config_.init_std, residual_std = std / std::sqrt(2.0 * static_cast<double>(config_.layers));
  gamma_ = plan.Parameter({.name = prefix_ + "ln_2.weight", .shape = {C}, .initial = Initial::kOne});
  beta_ = plan.Parameter({.name = prefix_ + "ln_2.bias", .shape = {C}});
  wfc_ = plan.Parameter({.name = prefix_ + "mlp.c_fc.weight", .shape = {C, F}, .initial = Initial::kNormal, .std = std, .decay = true});
  bfc_ = plan.Parameter({.name = prefix_ + "mlp.c_fc.bias", .shape = {F}});
  wproj_ = plan.Parameter(
      {.name = prefix_ + "mlp.c_proj.weight", .shape = {F, C}, .initial = Initial::kNormal, .std = residual_std, .decay = true});
  bproj_ = plan.Parameter({.name = prefix_ + "mlp.c_proj.bias", .shape = {C}});

  packed_fc_ = plan.Packed(wfc_, false);
  packed_fc_back_ = plan.Packed(wfc_, true);
  packed_proj_ = plan.Packed(wproj_, false);
  packed_proj_back_ = plan.Packed(wproj_, true);

  const TensorSpec rows{plan.statistics(), {B, T}}, hidden{plan.compute(), {B, T, F}};
  plan.KeepInput(KeepUntil::kWeight);
  normed_ = plan.Keep(x, KeepUntil::kWeight);
  mean_ = plan.Keep(rows, KeepUntil::kWeight);
  rstd_ = plan.Keep(rows, KeepUntil::kWeight);
  hidden_ = plan.Keep(hidden, KeepUntil::kInput);
  activated_ = plan.Keep(hidden, KeepUntil::kWeight);
  dproj_ = plan.Handoff(x);
  dhidden_ = plan.Handoff(hidden);
  dnormed_ = plan.Handoff(x);
  projected_ = plan.Scratch(x);
  if (config_.reuse.AppliesTo(name_)) {
    reuse_.Plan({.name = name_, .policy = config_.reuse.policy, .widths = {F, C}}, x, plan);
    hidden_rows_ = plan.Scratch(hidden);
    if (config_.dropout == 0) sums_ = plan.Scratch({plan.statistics(), x.shape});
  }
  plan.CountFlops(2.0 * static_cast<double>(B * T) * static_cast<double>(2 * C * F));
  return std::vector<TensorSpec>{x};
}

DropoutMask GptMlp::OutputMask(const LayerContext& context) const {
  return RowDropout(*context.stage, config_.dropout, dropout_output_, context.in[0].shape);
}

void GptMlp::Normalise(const LayerContext& context, const Tensor& rows) const {
  LayerNormForward(context.stream(), {.in = context.in[0],
                                      .gamma = context.parameter(gamma_),
                                      .beta = context.parameter(beta_),
                                      .out = rows,
                                      .mean = context.keep(mean_),
                                      .rstd = context.keep(rstd_)});
}

void GptMlp::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &x = context.in[0], &normed = context.keep(normed_), &hidden = context.keep(hidden_), &activated = context.keep(activated_);
  if (reuse_.reuses(context)) return ForwardReused(context);
  Normalise(context, normed);
  reuse_.Forward(context, normed);
  Gemm(stream, {.a = AsMatrix(normed),
                .b = AsMatrix(context.parameter(wfc_)),
                .c = AsMatrix(activated),
                .bias = context.parameter(bfc_),
                .packed_b = context.packed(packed_fc_),
                .gelu = true,
                .pre_activation = AsMatrix(hidden)});
  const DropoutMask mask = OutputMask(context);
  GemmArgs project{.a = AsMatrix(activated),
                   .b = AsMatrix(context.parameter(wproj_)),
                   .c = AsMatrix(context.out[0]),
                   .bias = context.parameter(bproj_),
                   .packed_b = context.packed(packed_proj_)};
  if (mask.rate == 0) {
    project.residual = AsMatrix(x);
    Gemm(stream, project);
    return;
  }
  project.c = AsMatrix(context.temporary(projected_));
  Gemm(stream, project);
  DropoutForward(stream, {.in = context.temporary(projected_), .residual = x, .out = context.out[0], .mask = mask});
}

void GptMlp::BackwardInput(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &dproj = context.handoff(dproj_), &dhidden = context.handoff(dhidden_);
  if (reuse_.reuses(context)) return BackwardInputReused(context);
  DropoutBackward(stream, {.dout = context.dout[0], .din = dproj, .mask = OutputMask(context)});
  Gemm(stream, {.a = AsMatrix(dproj),
                .b = AsMatrix(context.parameter(wproj_)),
                .transpose_b = true,
                .c = AsMatrix(dhidden),
                .packed_b = context.packed(packed_proj_back_),
                .gelu_input = AsMatrix(context.keep(hidden_))});
  Gemm(stream, {.a = AsMatrix(dhidden),
                .b = AsMatrix(context.parameter(wfc_)),
                .transpose_b = true,
                .c = AsMatrix(context.handoff(dnormed_)),
                .packed_b = context.packed(packed_fc_back_)});
  BackwardNorm(context);
}

void GptMlp::BackwardNorm(const LayerContext& context) const {
  const Tensor& dout = context.dout[0];
  context.stream().Copy(context.din[0].data, dout.data, dout.bytes());  // through the residual connection
  LayerNormBackwardInput(context.stream(), {.dout = context.handoff(dnormed_),
                                            .in = context.in[0],
                                            .gamma = context.parameter(gamma_),
                                            .mean = context.keep(mean_),
                                            .rstd = context.keep(rstd_),
                                            .din = context.din[0],
                                            .accumulate = true});
}

void GptMlp::BackwardWeight(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &dproj = context.handoff(dproj_), &dhidden = context.handoff(dhidden_);
  if (reuse_.reuses(context)) {
    BackwardWeightReused(context);
  } else {
    WeightGradient(context, context.keep(activated_), dproj, wproj_);
    BiasGradient(stream, {.dout = AsMatrix(dproj), .dbias = context.gradient(bproj_)});
    WeightGradient(context, context.keep(normed_), dhidden, wfc_);
    BiasGradient(stream, {.dout = AsMatrix(dhidden), .dbias = context.gradient(bfc_)});
  }
  LayerNormBackwardWeight(stream, {.dout = context.handoff(dnormed_),
                                   .in = context.in[0],
                                   .mean = context.keep(mean_),
                                   .rstd = context.keep(rstd_),
                                   .dgamma = context.gradient(gamma_),
                                   .dbeta = context.gradient(beta_)});
}

}  // namespace lycia
