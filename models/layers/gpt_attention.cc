#include "models/layers/gpt_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/attention/attention.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "models/layers/dropout_mask.h"
#include "models/layers/optional_bias.h"
#include "models/layers/weight_gradient.h"

namespace lycia {

GptAttention::GptAttention(const GptConfig& config, int block, std::shared_ptr<RotaryAngles> angles)
    : config_(config),
      block_(block),
      prefix_(StrCat("h.", block, ".")),
      name_(prefix_ + "attn"),
      dropout_probabilities_("dropout/" + prefix_ + "attn"),
      dropout_output_("dropout/" + prefix_ + "attn_out"),
      angles_(std::move(angles)) {}

StatusOr<std::vector<TensorSpec>> GptAttention::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const TensorSpec& x = in[0];
  const std::int64_t B = x.shape.dim(0), T = x.shape.dim(1), C = config_.hidden, width = config_.qkv_width();
  const double std = config_.init_std, residual_std = std / std::sqrt(2.0 * static_cast<double>(config_.layers));
  norm_.Plan(config_, prefix_ + "ln_1", x, plan);
  wqkv_ =
      plan.Parameter({.name = prefix_ + "attn.c_attn.weight", .shape = {C, width}, .initial = Initial::kNormal, .std = std, .decay = true});
  if (config_.biases()) bqkv_ = plan.Parameter({.name = prefix_ + "attn.c_attn.bias", .shape = {width}});
  wproj_ = plan.Parameter(
      {.name = prefix_ + "attn.c_proj.weight", .shape = {C, C}, .initial = Initial::kNormal, .std = residual_std, .decay = true});
  if (config_.biases()) bproj_ = plan.Parameter({.name = prefix_ + "attn.c_proj.bias", .shape = {C}});

  packed_qkv_ = plan.Packed(wqkv_, false);
  packed_qkv_back_ = plan.Packed(wqkv_, true);
  packed_proj_ = plan.Packed(wproj_, false);
  packed_proj_back_ = plan.Packed(wproj_, true);

  const TensorSpec qkv{plan.compute(), {B, T, width}};
  plan.KeepInput(KeepUntil::kWeight);
  normed_ = plan.Keep(x, KeepUntil::kWeight);
  qkv_ = plan.Keep(qkv, KeepUntil::kInput);
  mixed_ = plan.Keep(x, KeepUntil::kWeight);
  log_sum_exp_ = plan.Keep({plan.statistics(), {B, config_.heads, T}}, KeepUntil::kInput);
  dproj_ = plan.Handoff(x);
  dqkv_ = plan.Handoff(qkv);
  dnormed_ = plan.Handoff(x);
  projected_ = plan.Scratch(x);
  dmixed_ = plan.Scratch(x);
  problem_ = {.dtype = plan.compute(),
              .samples = B,
              .queries = T,
              .keys = T,
              .heads = config_.heads,
              .kv_heads = config_.key_heads(),
              .head_dim = C / config_.heads,
              .scale = 1 / std::sqrt(static_cast<double>(C / config_.heads)),
              .mask = MaskKind::kCausal};
  if (angles_ != nullptr) angles_->Prepare(T, plan.statistics());
  if (config_.reuse.AppliesTo(name_)) {
    // The first block's rows are a function of the tokens alone where no position and no dropout is added to them.
    const bool row_wise_before = block_ == 0 && config_.rotary() && config_.dropout == 0;
    reuse_.Plan({.name = name_, .policy = config_.reuse.policy, .row_wise_before = row_wise_before, .widths = {width}}, x, plan);
    qkv_rows_ = plan.Scratch(qkv);
  }
  attention_scratch_ = plan.Workspace(std::max(AttentionForwardScratchBytes(problem_), AttentionBackwardScratchBytes(problem_)));
  plan.CountFlops(2.0 * static_cast<double>(B * T) * static_cast<double>(C * width + C * C), AttentionForwardFlops(problem_));
  return std::vector<TensorSpec>{x};
}

AttentionProblem GptAttention::Problem(const LayerContext& context) const {
  const StageContext& stage = *context.stage;
  AttentionProblem problem = problem_;
  problem.samples = context.in[0].shape.dim(0);
  if (stage.training && config_.dropout > 0) {
    problem.dropout = {.rate = config_.dropout,
                       .random = RandomStream(stage.seed, dropout_probabilities_, stage.random_step()),
                       .first_sample = stage.samples.begin,
                       .first_head = 0,
                       .total_heads = config_.heads,
                       .length = problem.keys};
  }
  return problem;
}

void GptAttention::ProjectQkv(const LayerContext& context) const {
  const Tensor& normed = context.keep(normed_);
  if (reuse_.reuses(context)) return ProjectQkvReused(context);
  norm_.Forward(context, normed);
  reuse_.Forward(context, normed);
  Gemm(context.stream(), {.a = AsMatrix(normed),
                          .b = AsMatrix(context.parameter(wqkv_)),
                          .c = AsMatrix(context.keep(qkv_)),
                          .bias = OptionalBias(context, bqkv_),
                          .packed_b = context.packed(packed_qkv_)});
}

void GptAttention::BackwardQkvInput(const LayerContext& context, const Tensor& dqkv) const {
  if (reuse_.reuses(context) && reuse_.sums_suffice(context)) return BackwardQkvInputReused(context, dqkv);
  Gemm(context.stream(), {.a = AsMatrix(dqkv),
                          .b = AsMatrix(context.parameter(wqkv_)),
                          .transpose_b = true,
                          .c = AsMatrix(context.handoff(dnormed_)),
                          .packed_b = context.packed(packed_qkv_back_)});
}

const Tensor& GptAttention::QkvGradient(const LayerContext& context) const {
  return reuse_.reuses(context) && reuse_.sums_suffice(context) ? context.temporary(qkv_rows_) : context.handoff(dqkv_);
}

void GptAttention::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &x = context.in[0], &qkv = context.keep(qkv_), &mixed = context.keep(mixed_);
  const std::int64_t heads = config_.heads, kv_heads = config_.key_heads();
  ProjectQkv(context);
  if (angles_ != nullptr) angles_->Turn(stream, qkv, heads + kv_heads);
  const PackedQkv<ConstHeadsView> part = SplitQkv(ConstTensor(qkv), heads, kv_heads);
  AttentionForward(stream, {.problem = Problem(context),
                            .q = part.q,
                            .k = part.k,
                            .v = part.v,
                            .out = AsHeads(mixed, heads),
                            .log_sum_exp = context.keep(log_sum_exp_),
                            .scratch = context.temporary(attention_scratch_)});
  const DropoutMask mask = RowDropout(*context.stage, config_.dropout, dropout_output_, x.shape);
  GemmArgs project{.a = AsMatrix(mixed),
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

void GptAttention::BackwardInput(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &x = context.in[0], &dout = context.dout[0], &dproj = context.handoff(dproj_), &dqkv = QkvGradient(context);
  const Tensor &dmixed = context.temporary(dmixed_), &dnormed = context.handoff(dnormed_);
  const std::int64_t heads = config_.heads, kv_heads = config_.key_heads();
  DropoutBackward(stream, {.dout = dout, .din = dproj, .mask = RowDropout(*context.stage, config_.dropout, dropout_output_, x.shape)});
  Gemm(stream, {.a = AsMatrix(dproj),
                .b = AsMatrix(context.parameter(wproj_)),
                .transpose_b = true,
                .c = AsMatrix(dmixed),
                .packed_b = context.packed(packed_proj_back_)});
  const PackedQkv<ConstHeadsView> part = SplitQkv(ConstTensor(context.keep(qkv_)), heads, kv_heads);
  const PackedQkv<HeadsView> dpart = SplitQkv(dqkv, heads, kv_heads);
  AttentionBackward(stream, {.problem = Problem(context),
                             .q = part.q,
                             .k = part.k,
                             .v = part.v,
                             .out = AsHeads(ConstTensor(context.keep(mixed_)), heads),
                             .dout = AsHeads(ConstTensor(dmixed), heads),
                             .log_sum_exp = context.keep(log_sum_exp_),
                             .dq = dpart.q,
                             .dk = dpart.k,
                             .dv = dpart.v,
                             .scratch = context.temporary(attention_scratch_)});
  if (angles_ != nullptr) angles_->TurnBack(stream, dqkv, heads + kv_heads);
  BackwardQkvInput(context, dqkv);
  stream.Copy(context.din[0].data, dout.data, dout.bytes());  // through the residual connection
  norm_.BackwardInput(context, dnormed, /*accumulate=*/true);
}

void GptAttention::BackwardWeight(const LayerContext& context) const {
  const Tensor& dproj = context.handoff(dproj_);
  WeightGradient(context, context.keep(mixed_), dproj, wproj_, bproj_);
  BackwardQkvWeight(context);
  norm_.BackwardWeight(context, context.handoff(dnormed_));
}

}  // namespace lycia
