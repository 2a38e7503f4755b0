#include "models/grid_gpt.h"

#include "models/layers/grid_gpt_attention.h"
#include "models/layers/grid_gpt_embedding.h"
#include "models/layers/grid_gpt_head.h"
#include "models/layers/grid_gpt_mlp.h"
#include "models/layers/rotary_angles.h"

namespace lycia {

StatusOr<GridGptShape> FitGpt(const GridGptOptions& options) {
  const GptConfig& model = options.model;
  LYCIA_RETURN_IF_ERROR(Validate(model));
  if (options.sequence > model.context) {
    return InvalidArgument("sequences of ", options.sequence, " tokens do not fit model.context ", model.context);
  }
  const GridProblem problem{.samples = options.samples,
                            .sequence = options.sequence,
                            .hidden = model.hidden,
                            .heads = model.heads,
                            .kv_heads = model.key_heads(),
                            .ffn = model.ffn,
                            .vocabulary = model.vocab};
  const Grid& grid = *options.grid;
  LYCIA_ASSIGN_OR_RETURN(const GridSizes sizes, FitToGrid(problem, grid.size(Axis::kX), grid.size(Axis::kY), grid.size(Axis::kZ)));
  return GridGptShape{options, sizes};
}

StatusOr<std::vector<std::unique_ptr<GridLayer>>> GridGptLayers(const GridGptOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(const GridGptShape shape, FitGpt(options));
  std::vector<std::unique_ptr<GridLayer>> layers;
  const std::shared_ptr<RotaryAngles> angles = RotaryAngles::Of(options.model);
  layers.push_back(std::make_unique<GridGptEmbedding>(shape));
  for (int block = 0; block < options.model.layers; ++block) {
    layers.push_back(std::make_unique<GridGptAttention>(shape, block, angles));
    layers.push_back(std::make_unique<GridGptMlp>(shape, block));
  }
  layers.push_back(std::make_unique<GridGptHead>(shape));
  return layers;
}

}  // namespace lycia
