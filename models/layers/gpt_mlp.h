// MLP block: x [B, T, C] -> x + dropout(a Wp + bp), F features wide inside.
//   GPT-2  a = GELU(LN(x) Wfc + bfc), Wfc [C, F]
//   Llama  a = silu(g) u with [g | u] = RMS(x) Wfc, Wfc [C, 2 F] being gate and up side by side; no biases
#ifndef LYCIA_MODELS_LAYERS_GPT_MLP_H_
#define LYCIA_MODELS_LAYERS_GPT_MLP_H_

#include <string>

#include "kernels/elementwise/dropout.h"
#include "models/gpt.h"
#include "models/layers/reused_rows.h"
#include "models/layers/row_norm.h"

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
  // gpt_mlp_reused.cc: the same where equal or alike rows are computed once, from the layer norm to the residual.
  void ForwardReused(const LayerContext& context) const;
  void BackwardInputReused(const LayerContext& context) const;
  void BackwardWeightReused(const LayerContext& context) const;
  void Probe(const LayerContext& context, const ConstTensor& dy) const;
  DropoutMask OutputMask(const LayerContext& context) const;
  // From normed rows to the activation's output, and from its gradient to that of the first product's output.
  void ForwardHidden(const LayerContext& context) const;
  void BackwardHidden(const LayerContext& context) const;
  void BackwardNorm(const LayerContext& context) const;

  GptConfig config_;
  std::string prefix_;  // "h.3."
  std::string name_;    // "h.3.mlp"
  std::string dropout_output_;
  RowNorm norm_;
  ParameterHandle wfc_, bfc_, wproj_, bproj_;  // no biases in a Llama
  KeptHandle normed_, hidden_, activated_;     // [B,T,C] [B,T,F] (gated [B,T,2F]) [B,T,F]
  HandoffHandle dproj_, dhidden_, dnormed_;    // [B,T,C], as hidden_, [B,T,C]
  ScratchHandle projected_, hidden_rows_;
  ScratchHandle dactivated_;  // [B,T,F], gated only
  ScratchHandle sums_;        // [B,T,C], f32 for bf16: rows before the residual is added, which the dense layer does not round either
  ReusedRows reuse_;
  PackedHandle packed_fc_, packed_fc_back_, packed_proj_, packed_proj_back_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GPT_MLP_H_
