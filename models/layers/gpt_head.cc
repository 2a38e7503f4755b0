#include "models/layers/gpt_head.h"

#include "kernels/gemm/gemm.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/label_hits.h"
#include "kernels/norm/layer_norm.h"
#include "models/layers/weight_gradient.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> GptHead::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const TensorSpec& x = in[0];
  const std::int64_t B = x.shape.dim(0), T = x.shape.dim(1), C = config_.hidden, V = config_.vocab;
  gamma_ = plan.Parameter({.name = "ln_f.weight", .shape = {C}, .initial = Initial::kOne});
  beta_ = plan.Parameter({.name = "ln_f.bias", .shape = {C}});
  weight_ = plan.Parameter({.name = config_.tied ? "wte.weight" : "lm_head.weight",
                            .shape = {V, C},
                            .initial = Initial::kNormal,
                            .std = config_.init_std,
                            .decay = true,
                            .use = config_.tied ? 1 : 0});
  packed_ = plan.Packed(weight_, true);
  packed_back_ = plan.Packed(weight_, false);
  const TensorSpec rows{plan.statistics(), {B, T}};
  plan.KeepInput(KeepUntil::kWeight);
  normed_ = plan.Keep(x, KeepUntil::kWeight);
  mean_ = plan.Keep(rows, KeepUntil::kWeight);
  rstd_ = plan.Keep(rows, KeepUntil::kWeight);
  dlogits_ = plan.Keep({plan.compute(), {B, T, V}}, KeepUntil::kWeight);
  dnormed_ = plan.Handoff(x);
  plan.ReadLabels({DType::kI32, {B, T}});
  plan.CountFlops(2.0 * static_cast<double>(B * T) * static_cast<double>(C * V));
  return std::vector<TensorSpec>{};
}

void GptHead::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const StageContext& stage = *context.stage;
  const Tensor &normed = context.keep(normed_), &logits = context.keep(dlogits_);
  LayerNormForward(stream, {.in = context.in[0],
                            .gamma = context.parameter(gamma_),
                            .beta = context.parameter(beta_),
                            .out = normed,
                            .mean = context.keep(mean_),
                            .rstd = context.keep(rstd_)});
  Gemm(stream, {.a = AsMatrix(normed),
                .b = AsMatrix(context.parameter(weight_)),
                .transpose_b = true,
                .c = AsMatrix(logits),
                .packed_b = context.packed(packed_)});
  if (stage.logits.data != nullptr) stream.Copy(stage.logits.data, logits.data, logits.bytes());
  if (stage.sample_hits != nullptr) LabelHits(stream, {.logits = logits, .labels = context.labels, .sample_hits = stage.sample_hits});
  CrossEntropy(stream, {.logits = logits,
                        .labels = context.labels,
                        .sample_losses = stage.sample_losses,
                        .dlogits = stage.training ? logits : Tensor{},
                        .scale = stage.gradient_scale});
}

void GptHead::BackwardInput(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor& dnormed = context.handoff(dnormed_);
  Gemm(stream, {.a = AsMatrix(context.keep(dlogits_)),
                .b = AsMatrix(context.parameter(weight_)),
                .c = AsMatrix(dnormed),
                .packed_b = context.packed(packed_back_)});
  LayerNormBackwardInput(stream, {.dout = dnormed,
                                  .in = context.in[0],
                                  .gamma = context.parameter(gamma_),
                                  .mean = context.keep(mean_),
                                  .rstd = context.keep(rstd_),
                                  .din = context.din[0]});
}

void GptHead::BackwardWeight(const LayerContext& context) const {
  Stream& stream = context.stream();
  WeightGradient(context, context.keep(dlogits_), context.keep(normed_), weight_);
  LayerNormBackwardWeight(stream, {.dout = context.handoff(dnormed_),
                                   .in = context.in[0],
                                   .mean = context.keep(mean_),
                                   .rstd = context.keep(rstd_),
                                   .dgamma = context.gradient(gamma_),
                                   .dbeta = context.gradient(beta_)});
}

}  // namespace lycia
