#include "parallel/plan/grid_plan.h"

#include <algorithm>
#include <cstdio>
#include <tuple>

namespace lycia::plan {
namespace {

GridPlan PlanOf(const PlanGridsArgs& args, const GridShape& grid) {
  const GridProblem& problem = args.problem;
  GridPlan plan = {.grid = grid, .refusals = Refusals(grid, problem.model, problem.batch), .traffic = BlockBytes(problem, grid)};
  if (args.count && plan.fits()) {
    if (StatusOr<BlockTraffic> counted = args.count(grid); counted.ok()) {
      plan.traffic = *counted;
      plan.counted = true;
    } else {
      plan.refusals.push_back(std::string(counted.status().message()));
    }
  }
  const AxisTraffic matrices = plan.traffic.matrices();
  bool first = true;
  for (const AxisOrder& order : AxisOrders()) {
    if (args.order && *args.order != order) continue;
    const std::vector<NodeEdges> edges = EdgesLeaving(grid, order, args.ranks_per_node);
    const std::int64_t bytes = BytesLeavingNode(edges, matrices);
    const GridTime time = BlockTime(problem, grid, plan.traffic, edges, args.ranks_per_node, args.device);
    if (first || bytes < plan.bytes_leaving_node) {
      plan.bytes_leaving_node = bytes;
      plan.order_of_fewest_bytes = order;
    }
    if (first || time.total() < plan.time.total()) {
      plan.time = time;
      plan.order_of_least_time = order;
    }
    first = false;
  }
  plan.memory = BlockMemory(problem, grid);
  plan.model_memory = ModelMemory(problem, grid);
  plan.model_bytes = problem.model.layers * (matrices.total() + plan.traffic.norms().total()) + EmbeddingBytes(problem, grid).total() +
                     HeadBytes(problem, grid).total() + CrossEntropyBytes(problem, grid);
  return plan;
}

std::string Print(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string Ms(double seconds) { return Print("%.3f ms", seconds * 1e3); }
std::string Mb(std::int64_t bytes) { return Print("%.1f MB", static_cast<double>(bytes) / 1e6); }

// "4,4,4 (the cube): 3.210 ms, 352.3 MB a rank, 1006.6 MB leave a node"
std::string Compared(const GridPlan& plan, std::string_view name, const GridPlan& winner) {
  std::string text = StrCat("  ", plan.grid.ToString(), " (", name, "): ", Ms(plan.time.total()), ", ", Mb(plan.traffic.matrices().total()),
                            " a rank, ", Mb(plan.bytes_leaving_node), " leave a node");
  if (winner.time.total() > 0) text += Print("; %.2f times the winner's time", plan.time.total() / winner.time.total());
  return text + (plan.fits() ? "\n" : "; does not fit\n");
}

}  // namespace

std::vector<GridPlan> PlanGrids(const PlanGridsArgs& args) {
  std::vector<GridPlan> plans;
  for (const GridShape& grid : Factorisations(args.ranks)) plans.push_back(PlanOf(args, grid));
  std::stable_sort(plans.begin(), plans.end(), [](const GridPlan& a, const GridPlan& b) {
    const auto key = [](const GridPlan& plan) {
      return std::make_tuple(!plan.fits(), plan.time.total(), plan.bytes_leaving_node, plan.traffic.matrices().total(),
                             plan.memory.total());
    };
    return key(a) < key(b);
  });
  return plans;
}

std::string WhyItWins(const std::vector<GridPlan>& plans) {
  if (plans.empty() || !plans[0].fits()) return "No grid fits; each line above says which size to change.\n";
  const GridPlan& winner = plans[0];
  const GridTime& time = winner.time;
  std::string text = StrCat("Winner: ", winner.grid.ToString(), " with ranks in the order ", ToString(winner.order_of_least_time),
                            " (slowest first): ", Ms(time.total()), " for a block = ", Ms(time.x), " along x + ", Ms(time.y), " along y + ",
                            time.z > time.compute ? StrCat(Ms(time.z), " along z, which hides ", Ms(time.compute), " of compute")
                                                  : StrCat(Ms(time.compute), " of compute, which hides ", Ms(time.z), " along z"),
                            ".\n");
  if (plans.size() > 1 && plans[1].fits()) text += Compared(plans[1], "the runner-up", winner);
  for (const GridPlan& plan : plans) {
    const GridShape& grid = plan.grid;
    if (grid == winner.grid) continue;
    if (grid.y > 1 && grid.x == 1 && grid.z == 1) text += Compared(plan, "1-D with sequence parallelism", winner);
    if (grid.z > 1 && grid.x == 1 && grid.y == 1) text += Compared(plan, "fully sharded data parallelism", winner);
    if (grid.x > 1 && grid.x == grid.y && grid.y == grid.z) text += Compared(plan, "the cube", winner);
  }
  return text;
}

}  // namespace lycia::plan
