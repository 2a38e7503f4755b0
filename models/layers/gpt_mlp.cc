#include "models/layers/gpt_mlp.h"

#include <cmath>

#include "kernels/activation/swiglu.h"
#include "kernels/gemm/gemm.h"
#include "models/layers/dropout_mask.h"
#include "models/layers/optional_bias.h"
#include "models/layers/weight_gradient.h"

namespace lycia {

GptMlp::GptMlp(const GptConfig& config, int block)
    : config_(config), prefix_(StrCat("h.", block, ".")), name_(prefix_ + "mlp"), dropout_output_("dropout/" + prefix_ + "mlp_out") {}

StatusOr<std::vector<TensorSpec>> GptMlp::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const TensorSpec& x = in[0];
  const std::int64_t B = x.shape.dim(0), T = x.shape.dim(1), C = config_.hidden, F = config_.ffn, width = config_.ffn_width();
  const double std = config_.init_std, residual_std = std / std::sqrt(2.0 * static_cast<double>(config_.layers));
  norm_.Plan(config_, prefix_ + "ln_2", x, plan);
  wfc_ = plan.Parameter({.name = prefix_ + "mlp.c_fc.weight", .shape = {C, width}, .initial = Initial::kNormal, .std = std, .decay = true});
  if (config_.biases()) bfc_ = plan.Parameter({.name = prefix_ + "mlp.c_fc.bias", .shape = {F}});
  wproj_ = plan.Parameter(
      {.name = prefix_ + "mlp.c_proj.weight", .shape = {F, C}, .initial = Initial::kNormal, .std = residual_std, .decay = true});
  if (config_.biases()) bproj_ = plan.Parameter({.name = prefix_ + "mlp.c_proj.bias", .shape = {C}});

  packed_fc_ = plan.Packed(wfc_, false);
  packed_fc_back_ = plan.Packed(wfc_, true);
  packed_proj_ = plan.Packed(wproj_, false);
  packed_proj_back_ = plan.Packed(wproj_, true);

  const TensorSpec hidden{plan.compute(), {B, T, width}}, activated{plan.compute(), {B, T, F}};
  plan.KeepInput(KeepUntil::kWeight);
  normed_ = plan.Keep(x, KeepUntil::kWeight);
  hidden_ = plan.Keep(hidden, KeepUntil::kInput);
  activated_ = plan.Keep(activated, KeepUntil::kWeight);
  dproj_ = plan.Handoff(x);
  dhidden_ = plan.Handoff(hidden);
  dnormed_ = plan.Handoff(x);
  projected_ = plan.Scratch(x);
  if (config_.gated()) dactivated_ = plan.Scratch(activated);
  if (!config_.gated() && config_.reuse.AppliesTo(name_)) {
    reuse_.Plan({.name = name_, .policy = config_.reuse.policy, .widths = {F, C}}, x, plan);
    hidden_rows_ = plan.Scratch(hidden);
    if (config_.dropout == 0) sums_ = plan.Scratch({plan.statistics(), x.shape});
  }
  plan.CountFlops(2.0 * static_cast<double>(B * T) * static_cast<double>(C * (width + F)));
  return std::vector<TensorSpec>{x};
}

DropoutMask GptMlp::OutputMask(const LayerContext& context) const {
  return RowDropout(*context.stage, config_.dropout, dropout_output_, context.in[0].shape);
}

void GptMlp::ForwardHidden(const LayerContext& context) const {
  const Tensor &hidden = context.keep(hidden_), &activated = context.keep(activated_);
  GemmArgs product{.a = AsMatrix(context.keep(normed_)),
                   .b = AsMatrix(context.parameter(wfc_)),
                   .bias = OptionalBias(context, bfc_),
                   .packed_b = context.packed(packed_fc_)};
  if (config_.gated()) {
    product.c = AsMatrix(hidden);
    Gemm(context.stream(), product);
    SwiGluForward(context.stream(), {.in = hidden, .out = activated});
    return;
  }
  product.c = AsMatrix(activated);
  product.gelu = true;
  product.pre_activation = AsMatrix(hidden);
  Gemm(context.stream(), product);
}

void GptMlp::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &x = context.in[0], &normed = context.keep(normed_), &activated = context.keep(activated_);
  if (reuse_.reuses(context)) return ForwardReused(context);
  norm_.Forward(context, normed);
  reuse_.Forward(context, normed);
  ForwardHidden(context);
  const DropoutMask mask = OutputMask(context);
  GemmArgs project{.a = AsMatrix(activated),
                   .b = AsMatrix(context.parameter(wproj_)),
                   .c = AsMatrix(context.out[0]),
                   .bias = OptionalBias(context, bproj_),
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

void GptMlp::BackwardHidden(const LayerContext& context) const {
  const Tensor &hidden = context.keep(hidden_), &dhidden = context.handoff(dhidden_);
  GemmArgs product{.a = AsMatrix(context.handoff(dproj_)),
                   .b = AsMatrix(context.parameter(wproj_)),
                   .transpose_b = true,
                   .packed_b = context.packed(packed_proj_back_)};
  if (config_.gated()) {
    const Tensor& dactivated = context.temporary(dactivated_);
    product.c = AsMatrix(dactivated);
    Gemm(context.stream(), product);
    SwiGluBackward(context.stream(), {.in = hidden, .dout = dactivated, .din = dhidden});
    return;
  }
  product.c = AsMatrix(dhidden);
  product.gelu_input = AsMatrix(hidden);
  Gemm(context.stream(), product);
}

void GptMlp::BackwardInput(const LayerContext& context) const {
  Stream& stream = context.stream();
  if (reuse_.reuses(context)) return BackwardInputReused(context);
  DropoutBackward(stream, {.dout = context.dout[0], .din = context.handoff(dproj_), .mask = OutputMask(context)});
  BackwardHidden(context);
  Gemm(stream, {.a = AsMatrix(context.handoff(dhidden_)),
                .b = AsMatrix(context.parameter(wfc_)),
                .transpose_b = true,
                .c = AsMatrix(context.handoff(dnormed_)),
                .packed_b = context.packed(packed_fc_back_)});
  BackwardNorm(context);
}

void GptMlp::BackwardNorm(const LayerContext& context) const {
  const Tensor& dout = context.dout[0];
  context.stream().Copy(context.din[0].data, dout.data, dout.bytes());  // through the residual connection
  norm_.BackwardInput(context, context.handoff(dnormed_), /*accumulate=*/true);
}

void GptMlp::BackwardWeight(const LayerContext& context) const {
  const Tensor &dproj = context.handoff(dproj_), &dhidden = context.handoff(dhidden_);
  if (reuse_.reuses(context)) {
    BackwardWeightReused(context);
  } else {
    WeightGradient(context, context.keep(activated_), dproj, wproj_, bproj_);
    WeightGradient(context, context.keep(normed_), dhidden, wfc_, bfc_);
  }
  norm_.BackwardWeight(context, context.handoff(dnormed_));
}

}  // namespace lycia
