// Embedding: tokens [B, T] i32 -> x [B, T, C] = dropout(wte[token] + wpe[position]), or without wpe where positions
// are rotary.
#ifndef LYCIA_MODELS_LAYERS_GPT_EMBEDDING_H_
#define LYCIA_MODELS_LAYERS_GPT_EMBEDDING_H_

#include <string>

#include "models/gpt.h"

namespace lycia {

class GptEmbedding final : public Layer {
 public:
  explicit GptEmbedding(const GptConfig& config) : config_(config) {}
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;

 private:
  GptConfig config_;
  std::string name_ = "embedding";
  ParameterHandle wte_, wpe_;  // wpe_: learned positions only
  HandoffHandle dsum_;         // [B, T, C] gradient of the embedding before dropout
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GPT_EMBEDDING_H_
