// Attention block: x [B, T, C] -> x + dropout(Attention(LN(x) Wqkv + bqkv) Wp + bp), causal, H heads of size D = C / H, G key/value heads.
#ifndef LYCIA_MODELS_LAYERS_GPT_ATTENTION_H_
#define LYCIA_MODELS_LAYERS_GPT_ATTENTION_H_

#include <string>

#include "kernels/attention/attention.h"
#include "models/gpt.h"

namespace lycia {

class GptAttention final : public Layer {
 public:
  GptAttention(const GptConfig& config, int block);
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;

 private:
  AttentionProblem Problem(const LayerContext& context) const;  // of the samples at hand, with their dropout

  GptConfig config_;
  std::string prefix_;  // "h.3."
  std::string name_;    // "h.3.attn"
  std::string dropout_probabilities_, dropout_output_;
  ParameterHandle gamma_, beta_, wqkv_, bqkv_, wproj_, bproj_;
  KeptHandle normed_, mean_, rstd_, qkv_, mixed_, log_sum_exp_;  // [B,T,C] [B,T] [B,T] [B,T,(H+2G)D] [B,T,C] [B,H,T]
  HandoffHandle dproj_, dqkv_, dnormed_;                         // [B,T,C] [B,T,(H+2G)D] [B,T,C]
  ScratchHandle projected_, dmixed_, attention_scratch_;         // [B,T,C] [B,T,C] and the kernel's own
  PackedHandle packed_qkv_, packed_qkv_back_, packed_proj_, packed_proj_back_;
  AttentionProblem problem_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GPT_ATTENTION_H_
