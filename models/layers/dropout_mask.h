// Dropout of a [samples, T, C] activation by global index: ((sample * T) + t) * C + c (docs/numerics.md).
#ifndef LYCIA_MODELS_LAYERS_DROPOUT_MASK_H_
#define LYCIA_MODELS_LAYERS_DROPOUT_MASK_H_

#include <string_view>

#include "kernels/elementwise/dropout.h"
#include "parallel/layer/layer.h"

namespace lycia {

// rate 0 in evaluation.
inline DropoutMask RowDropout(const StageContext& stage, double rate, std::string_view name, const Shape& shape) {
  if (!stage.training || rate == 0) return {};
  return {.rate = rate,
          .random = RandomStream(stage.seed, name, stage.random_step()),
          .first_index = stage.samples.begin * shape.dim(1) * shape.dim(2)};
}

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_DROPOUT_MASK_H_
