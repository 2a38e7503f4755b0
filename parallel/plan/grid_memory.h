// Bytes that one rank of a tensor grid keeps: everything that is a parameter or an activation is cut P ways, gathered buffers are not.
#ifndef LYCIA_PARALLEL_PLAN_GRID_MEMORY_H_
#define LYCIA_PARALLEL_PLAN_GRID_MEMORY_H_

#include <cstdint>

#include "parallel/plan/grid_bytes.h"

namespace lycia::plan {

struct GridMemory {
  std::int64_t parameters = 0;     // matrices in the run's type, vectors in f32
  std::int64_t gradients = 0;      // f32 (f64 in a run of f64): summed over micro-batches
  std::int64_t optimizer = 0;      // AdamW: two moments in the gradients' type, and a master copy where the parameters are narrower
  std::int64_t activations = 0;    // kept for backward: norms' inputs and outputs, QKV, mixed heads, both sides of the activation function
  std::int64_t gathered_x = 0;     // kept from forward to backward, or the largest one for a moment where X is gathered again
  std::int64_t gathered_w = 0;     // kept from forward to backward, or nothing
  std::int64_t moving_w = 0;       // W gathered ahead, and dW before its reduce-scatter in its place: the largest two neighbours
  std::int64_t partial_x = 0;      // the largest dX before its reduce-scatter
  std::int64_t partial_y = 0;      // the largest product before its reduce-scatter
  std::int64_t vectors = 0;        // working copies of biases and norm vectors, f32
  std::int64_t counted_twice = 0;  // kept gathered X hold this rank's own part, which `activations` has; W at z = 1 is the parameter itself

  std::int64_t total() const;
};

// One block with one micro-batch in flight.
GridMemory BlockMemory(const GridProblem& problem, const GridShape& grid);
// The whole model on one grid, one micro-batch in flight: blocks, embedding, head and logits. Buffers of a moment are shared.
GridMemory ModelMemory(const GridProblem& problem, const GridShape& grid);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_GRID_MEMORY_H_
