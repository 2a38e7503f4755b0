// A bias that a family of models may do without: then it was not declared.
#ifndef LYCIA_MODELS_LAYERS_OPTIONAL_BIAS_H_
#define LYCIA_MODELS_LAYERS_OPTIONAL_BIAS_H_

#include "kernels/gemm/gemm.h"
#include "parallel/layer/layer.h"

namespace lycia {

// For GemmArgs::bias, which may be absent.
inline ConstTensor OptionalBias(const LayerContext& context, ParameterHandle bias) {
  return bias.index < 0 ? ConstTensor() : ConstTensor(context.parameter(bias));
}

// += the sums over the rows of dy.
inline void OptionalBiasGradient(const LayerContext& context, const ConstTensor& dy, ParameterHandle bias) {
  if (bias.index >= 0) BiasGradient(context.stream(), {.dout = AsMatrix(dy), .dbias = context.gradient(bias)});
}

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_OPTIONAL_BIAS_H_
