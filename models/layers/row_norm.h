// The norm at the beginning of a block and of the head, over the features of each row: layer norm, or Llama's RMS norm.
#ifndef LYCIA_MODELS_LAYERS_ROW_NORM_H_
#define LYCIA_MODELS_LAYERS_ROW_NORM_H_

#include <string>

#include "models/gpt.h"

namespace lycia {

// Of a layer's input [B, T, C], which the layer keeps until its weight gradient.
class RowNorm {
 public:
  // Declares `name`.weight, and `name`.bias of a layer norm, and what is kept of each row.
  void Plan(const GptConfig& config, const std::string& name, const TensorSpec& x, LayerPlan& plan);

  // out = of in[0].
  void Forward(const LayerContext& context, const Tensor& out) const;
  // din[0] =, or += where the residual connection has brought its gradient already.
  void BackwardInput(const LayerContext& context, const ConstTensor& dout, bool accumulate) const;
  void BackwardWeight(const LayerContext& context, const ConstTensor& dout) const;

 private:
  bool rms_ = false;
  double eps_ = 0;
  ParameterHandle gamma_, beta_;  // beta_: layer norm only
  KeptHandle mean_, rstd_;        // [B, T]; mean_: layer norm only
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_ROW_NORM_H_
