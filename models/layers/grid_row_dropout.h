// Dropout of a rank's rows and features of the residual stream, by their global index: (sample T + t) C + c (docs/numerics.md).
#ifndef LYCIA_MODELS_LAYERS_GRID_ROW_DROPOUT_H_
#define LYCIA_MODELS_LAYERS_GRID_ROW_DROPOUT_H_

#include <string_view>

#include "kernels/elementwise/dropout.h"
#include "models/grid_gpt.h"

namespace lycia {

// rate 0 in evaluation.
inline DropoutMask GridRowDropout(const GridGptShape& shape, const StageContext& stage, std::string_view name) {
  const GptConfig& model = shape.options.model;
  if (!stage.training || model.dropout == 0) return {};
  const std::int64_t first_token = shape.first_sample(stage) * shape.options.sequence + shape.first_row();
  return {.rate = model.dropout,
          .random = RandomStream(stage.seed, name, stage.random_step()),
          .first_index = first_token * model.hidden + shape.coordinate(Axis::kX) * shape.sizes.features,
          .row_stride = model.hidden};
}

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_ROW_DROPOUT_H_
