#include "models/layers/gpt_embedding.h"

#include "kernels/elementwise/dropout.h"
#include "kernels/embedding/embedding.h"
#include "models/layers/dropout_mask.h"

namespace lycia {

StatusOr<std::vector<TensorSpec>> GptEmbedding::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const Shape& tokens = in[0].shape;
  if (tokens.dim(1) > config_.context) {
    return InvalidArgument("sequences of ", tokens.dim(1), " tokens do not fit model.context ", config_.context);
  }
  const std::int64_t C = config_.hidden;
  wte_ = plan.Parameter(
      {.name = "wte.weight", .shape = {config_.vocab, C}, .initial = Initial::kNormal, .std = config_.init_std, .decay = true});
  if (!config_.rotary()) {
    wpe_ = plan.Parameter(
        {.name = "wpe.weight", .shape = {config_.context, C}, .initial = Initial::kNormal, .std = config_.init_std, .decay = true});
  }
  plan.KeepInput(KeepUntil::kWeight);
  const TensorSpec x{plan.compute(), {tokens.dim(0), tokens.dim(1), C}};
  dsum_ = plan.Handoff(x);
  return std::vector<TensorSpec>{x};
}

void GptEmbedding::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  EmbeddingForward(stream, {.tokens = context.in[0],
                            .wte = context.parameter(wte_),
                            .wpe = config_.rotary() ? Tensor() : context.parameter(wpe_),
                            .out = context.out[0]});
  if (const DropoutMask mask = RowDropout(*context.stage, config_.dropout, "dropout/embedding", context.out[0].shape); mask.rate > 0) {
    DropoutForward(stream, {.in = context.out[0], .out = context.out[0], .mask = mask});
  }
}

void GptEmbedding::BackwardInput(const LayerContext& context) const {
  // Tokens have no gradient; what the tables need is dout behind the dropout.
  const Tensor& dsum = context.handoff(dsum_);
  const DropoutMask mask = RowDropout(*context.stage, config_.dropout, "dropout/embedding", dsum.shape);
  DropoutBackward(context.stream(), {.dout = context.dout[0], .din = dsum, .mask = mask});
}

void GptEmbedding::BackwardWeight(const LayerContext& context) const {
  EmbeddingBackward(context.stream(), {.tokens = context.in[0],
                                       .dout = context.handoff(dsum_),
                                       .dwte = context.gradient(wte_),
                                       .dwpe = config_.rotary() ? Tensor() : context.gradient(wpe_)});
}

}  // namespace lycia
