// One training step of the real code on a tensor grid, as one rank of any number of ranks, without data: the layers of grid_gpt.h run on
// the shape device over dry-run communicators, and what they ask these to move is counted.
#ifndef LYCIA_MODELS_GRID_DRY_RUN_H_
#define LYCIA_MODELS_GRID_DRY_RUN_H_

#include <array>

#include "models/grid_gpt.h"

namespace lycia {

struct GridDryRunArgs {
  GptConfig model;
  int x = 1, y = 1, z = 1;
  int rank = 0;
  std::int64_t samples = 0;   // of the micro-batch, on all z together
  std::int64_t sequence = 0;  // T
  GridPolicy policy;
  bool split_backward = false;
  DType compute = DType::kF32;
};

// Counters of one rank for one micro-batch, by group of ranks.
struct GridTraffic {
  std::array<Counters, kNumGridGroups> of{};
  // Over all operations.
  Counter sum(GridGroup group, Tag tag) const;
};

struct GridStep {
  GridTraffic embedding, blocks, head;                             // forward
  GridTraffic embedding_backward, blocks_backward, head_backward;  // backward
  GridTraffic vectors;                                             // once a step: StepExchange, out and back
  std::int64_t kept_bytes = 0;                                     // by the blocks, of the micro-batch between its forward and backward
  std::int64_t moving_bytes = 0;                                   // of the blocks: weights and their gradients under way
};

// InvalidArgument where the model does not fit the grid.
StatusOr<GridStep> DryRunGridStep(const GridDryRunArgs& args);

}  // namespace lycia

#endif  // LYCIA_MODELS_GRID_DRY_RUN_H_
