#include "models/layers/gpt_head.h"

#include "kernels/gemm/gemm.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/label_hits.h"
#include "models/layers/weight_gradient.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> GptHead::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const TensorSpec& x = in[0];
  const std::int64_t B = x.shape.dim(0), T = x.shape.dim(1), C = config_.hidden, V = config_.vocab;
  norm_.Plan(config_, "ln_f", x, plan);
  weight_ = plan.Parameter({.name = config_.tied ? "wte.weight" : "lm_head.weight",
                            .shape = {V, C},
                            .initial = Initial::kNormal,
                            .std = config_.init_std,
                            .decay = true,
                            .use = config_.tied ? 1 : 0});
  packed_ = plan.Packed(weight_, true);
  packed_back_ = plan.Packed(weight_, false);
  plan.KeepInput(KeepUntil::kWeight);
  normed_ = plan.Keep(x, KeepUntil::kWeight);
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
  norm_.Forward(context, normed);
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
  const Tensor& dnormed = context.handoff(dnormed_);
  Gemm(context.stream(), {.a = AsMatrix(context.keep(dlogits_)),
                          .b = AsMatrix(context.parameter(weight_)),
                          .c = AsMatrix(dnormed),
                          .packed_b = context.packed(packed_back_)});
  norm_.BackwardInput(context, dnormed, /*accumulate=*/false);
}

void GptHead::BackwardWeight(const LayerContext& context) const {
  WeightGradient(context, context.keep(dlogits_), context.keep(normed_), weight_);
  norm_.BackwardWeight(context, context.handoff(dnormed_));
}

}  // namespace lycia
