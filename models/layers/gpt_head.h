// Head and loss: x [B, T, C], labels [B, T] -> logits = norm(x) Wᵀ and the loss of each sample; no output. W is wte.weight (tied) or
// lm_head.weight.
// Forward turns the kept logits into their gradient at once, so the probabilities are stored once.
#ifndef LYCIA_MODELS_LAYERS_GPT_HEAD_H_
#define LYCIA_MODELS_LAYERS_GPT_HEAD_H_

#include <string>

#include "models/gpt.h"
#include "models/layers/row_norm.h"

namespace lycia {

class GptHead final : public Layer {
 public:
  explicit GptHead(const GptConfig& config) : config_(config) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;

 private:
  GptConfig config_;
  std::string name_ = "head";
  RowNorm norm_;
  ParameterHandle weight_;
  KeptHandle normed_, dlogits_;  // [B,T,C] [B,T,V]
  HandoffHandle dnormed_;        // [B,T,C]
  PackedHandle packed_, packed_back_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GPT_HEAD_H_
