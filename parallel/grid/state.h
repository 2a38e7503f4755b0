// GridState: which part of a model's state (parallel/layer/state.h) a rank of a grid has.
#ifndef LYCIA_PARALLEL_GRID_STATE_H_
#define LYCIA_PARALLEL_GRID_STATE_H_

#include <string>

#include "parallel/grid/block.h"
#include "parallel/grid/grid.h"
#include "runtime/core/tensor.h"

namespace lycia {

struct GridState {
  std::string name;  // of the state
  Shape tensor_shape;
  Block block;                      // what this rank holds of it, in order
  GridGroup group = GridGroup::kZ;  // ranks that hold the same; each observes its own samples
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_STATE_H_
