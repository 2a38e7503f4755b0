// The planner of tensor grids: every grid of a number of ranks with what it moves, keeps and takes, the fastest first.
#ifndef LYCIA_PARALLEL_PLAN_GRID_PLAN_H_
#define LYCIA_PARALLEL_PLAN_GRID_PLAN_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "parallel/plan/grid_memory.h"
#include "parallel/plan/grid_time.h"

namespace lycia::plan {

struct PlanGridsArgs {
  GridProblem problem;
  int ranks = 1;
  int ranks_per_node = 8;
  DeviceModel device = {};
  std::optional<AxisOrder> order = {};  // of ranks; empty: the best of the six for each figure
  // What the real code moves on a grid that fits, or why it refuses; absent: the formulas stand.
  std::function<StatusOr<BlockTraffic>(const GridShape&)> count = {};
};

struct GridPlan {
  GridShape grid;
  std::vector<std::string> refusals;  // empty: the grid fits. Otherwise the figures are what it would move, were the sizes close multiples
  // One block, one micro-batch, forward and backward.
  BlockTraffic traffic;
  bool counted = false;                 // traffic is what the real code moved in a dry run; false: the formulas
  std::int64_t bytes_leaving_node = 0;  // of the matrices, by the busiest node
  AxisOrder order_of_fewest_bytes{};    // the order of ranks that bytes_leaving_node has
  GridTime time;
  AxisOrder order_of_least_time{};  // the order of ranks that time has
  GridMemory memory;
  // The model: all blocks, embedding, head and loss, one micro-batch.
  std::int64_t model_bytes = 0;
  GridMemory model_memory;

  bool fits() const { return refusals.empty(); }
};

// Grids that fit by predicted time, then (equal times) bytes that leave a node, bytes moved and memory; then the refused ones. So the first
// is the winner, if any fits.
std::vector<GridPlan> PlanGrids(const PlanGridsArgs& args);

// Why the first of `plans` is the first: its times, the runner-up, and what 1-D and the cube would cost. Ends in a newline.
std::string WhyItWins(const std::vector<GridPlan>& plans);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_GRID_PLAN_H_
