#ifndef LYCIA_MODELS_LAYERS_WEIGHT_GRADIENT_H_
#define LYCIA_MODELS_LAYERS_WEIGHT_GRADIENT_H_

#include "kernels/gemm/gemm.h"
#include "parallel/layer/layer.h"

namespace lycia {

// The gradient of a weight [k, n] in y = x W: dW += xᵀ dy, for x [..., k] and dy [..., n]. The first of a step overwrites.
inline void WeightGradient(const LayerContext& context, const ConstTensor& x, const ConstTensor& dy, ParameterHandle weight) {
  const LayerContext::SumInto dw = context.gradient_sum(weight);
  Gemm(context.stream(), {.a = AsMatrix(x), .transpose_a = true, .b = AsMatrix(dy), .c = dw.c, .accumulate = dw.accumulate});
}

// With that of the bias [n], where the layer has one: db += the sums of dy over its rows.
inline void WeightGradient(const LayerContext& context, const ConstTensor& x, const ConstTensor& dy, ParameterHandle weight,
                           ParameterHandle bias) {
  const LayerContext::SumInto dw = context.gradient_sum(weight);
  Gemm(context.stream(), {.a = AsMatrix(x),
                          .transpose_a = true,
                          .b = AsMatrix(dy),
                          .c = dw.c,
                          .accumulate = dw.accumulate,
                          .b_sums = bias.index < 0 ? Tensor() : context.gradient(bias)});
}

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_WEIGHT_GRADIENT_H_
