// MLP block: x [B, T, C] -> x + dropout(GELU(LN(x) Wfc + bfc) Wp + bp), hidden width F.
#ifndef LYCIA_MODELS_LAYERS_GPT_MLP_H_
#define LYCIA_MODELS_LAYERS_GPT_MLP_H_

#include <string>

#include "models/gpt.h"

namespace lycia {

class GptMlp final : public Layer {
 public:
  GptMlp(const GptConfig& config, int block);
  const std::string& name() const override { return name_; }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override;

 private:
  GptConfig config_;
  std::string prefix_;  // "h.3."
  std::string name_;    // "h.3.mlp"
  std::string dropout_output_;
  ParameterHandle gamma_, beta_, wfc_, bfc_, wproj_, bproj_;
  KeptHandle normed_, mean_, rstd_, hidden_, activated_;  // [B,T,C] [B,T] [B,T] [B,T,F] [B,T,F]
  HandoffHandle dproj_, dhidden_, dnormed_;               // [B,T,C] [B,T,F] [B,T,C]
  ScratchHandle projected_;
  PackedHandle packed_fc_, packed_fc_back_, packed_proj_, packed_proj_back_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GPT_MLP_H_
