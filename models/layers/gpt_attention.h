// Attention block: x [B, T, C] -> x + dropout(Attention(norm(x) Wqkv + bqkv) Wp + bp), causal, H heads of size D = C / H, G key/value
// heads. With rotary positions q and k are turned before Attention, in place, and their gradients are turned back behind it.
#ifndef LYCIA_MODELS_LAYERS_GPT_ATTENTION_H_
#define LYCIA_MODELS_LAYERS_GPT_ATTENTION_H_

#include <memory>
#include <string>

#include "kernels/attention/attention.h"
#include "models/gpt.h"
#include "models/layers/reused_rows.h"
#include "models/layers/rotary_angles.h"
#include "models/layers/row_norm.h"

namespace lycia {

class GptAttention final : public Layer {
 public:
  // angles: of all blocks, null where positions are learned.
  GptAttention(const GptConfig& config, int block, std::shared_ptr<RotaryAngles> angles);
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;

 private:
  // From normed rows to queries, keys and values before they are turned, and back; gpt_attention_reused.cc: of distinct rows only.
  void ProjectQkv(const LayerContext& context) const;
  void ProjectQkvReused(const LayerContext& context) const;
  void BackwardQkvInput(const LayerContext& context, const Tensor& dqkv) const;
  void BackwardQkvInputReused(const LayerContext& context, const Tensor& dqkv) const;
  void BackwardQkvWeight(const LayerContext& context) const;
  // Where the gradient of queries, keys and values of all rows goes: handed over, or scratch whose sums are.
  const Tensor& QkvGradient(const LayerContext& context) const;

  AttentionProblem Problem(const LayerContext& context) const;  // of the samples at hand, with their dropout

  GptConfig config_;
  int block_ = 0;
  std::string prefix_;  // "h.3."
  std::string name_;    // "h.3.attn"
  std::string dropout_probabilities_, dropout_output_;
  RowNorm norm_;
  ParameterHandle wqkv_, bqkv_, wproj_, bproj_;           // no biases in a Llama
  KeptHandle normed_, qkv_, mixed_, log_sum_exp_;         // [B,T,C] [B,T,(H+2G)D] [B,T,C] [B,H,T]
  HandoffHandle dproj_, dqkv_, dnormed_;                  // [B,T,C] [B,T,(H+2G)D] [B,T,C]
  ScratchHandle projected_, dmixed_, attention_scratch_;  // [B,T,C] [B,T,C] and the kernel's own
  ScratchHandle qkv_rows_;                                // [B,T,(H+2G)D]
  ReusedRows reuse_;
  PackedHandle packed_qkv_, packed_qkv_back_, packed_proj_, packed_proj_back_;
  AttentionProblem problem_;
  std::shared_ptr<RotaryAngles> angles_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GPT_ATTENTION_H_
