// What the real code moves on a tensor grid, for the planner: a dry run of one step (models/grid_dry_run.h) as the planner's traffic.
#ifndef LYCIA_LAUNCH_GRID_COUNT_H_
#define LYCIA_LAUNCH_GRID_COUNT_H_

#include "parallel/plan/grid_bytes.h"

namespace lycia {

// True where the layers of models/ are those of the problem's model: GPT's, with biases and an ungated feed-forward layer, or Llama's.
bool CanCount(const plan::GridProblem& problem);

// Traffic of one block and one micro-batch at rank 0, from a step of the whole model. The code runs in f32 (f64 for elements of 8 bytes);
// matrices in narrower types move the same elements. Without a number of sequences: one for each z. InvalidArgument where the code refuses.
StatusOr<plan::BlockTraffic> CountBlock(const plan::GridProblem& problem, const plan::GridShape& grid);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_GRID_COUNT_H_
