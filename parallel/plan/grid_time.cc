#include "parallel/plan/grid_time.h"

#include <algorithm>

namespace lycia::plan {

GridTime BlockTime(const GridProblem& problem, const GridShape& grid, const BlockTraffic& traffic, std::span<const NodeEdges> edges,
                   int ranks_per_node, const DeviceModel& device) {
  const Transformer& model = problem.model;
  const double m = static_cast<double>(problem.batch.tokens), h = static_cast<double>(model.hidden);
  const std::int64_t sequence = problem.batch.sequences != 0 ? problem.batch.tokens / problem.batch.sequences : model.context;
  double multiply_adds = m * h * static_cast<double>(sequence);  // causal: half of the scores, twice (with keys, with values)
  for (const BlockLinear& linear : BlockLinears(model, {}))
    multiply_adds += m * static_cast<double>(linear.k) * static_cast<double>(linear.n);
  constexpr double kFlops = 2 * 3;  // of a multiply-add; forward, input gradient, weight gradient

  AxisTraffic moved = traffic.matrices();
  moved += traffic.norms();
  const int node_ranks = std::min(ranks_per_node, grid.ranks());
  const auto seconds = [&](Axis axis) {
    std::int64_t leaving = 0;
    for (const NodeEdges& node : edges) leaving = std::max(leaving, node.of(axis));
    double bandwidth = device.intra_bandwidth, latency = device.intra_latency;
    if (leaving > 0) {
      bandwidth = std::min(bandwidth, device.inter_bandwidth * node_ranks / static_cast<double>(leaving));
      latency = device.inter_latency;
    }
    return static_cast<double>(moved.calls(axis)) * (grid.size(axis) - 1) * latency + static_cast<double>(moved.bytes(axis)) / bandwidth;
  };
  return {.compute = kFlops * multiply_adds / grid.ranks() / device.flops,
          .x = seconds(Axis::kX),
          .y = seconds(Axis::kY),
          .z = seconds(Axis::kZ)};
}

}  // namespace lycia::plan
