#include "parallel/plan/grid_report.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "parallel/plan/grid_references.h"

namespace lycia::plan {
namespace {

template <typename... Values>
std::string Print(const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

double Mb(std::int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

// Decimals of a MB in the table: what grids of small models differ by is small.
int Decimals(std::int64_t largest_bytes) { return largest_bytes < 10'000'000 ? 4 : 1; }

std::string Heading(const PlanGridsArgs& args) {
  const Transformer& model = args.problem.model;
  const GatherPolicy& gather = args.problem.gather;
  std::string text =
      StrCat(model.name, ": hidden ", model.hidden, ", ffn ", model.ffn, model.gated ? " (gated)" : "", ", heads ", model.heads);
  if (model.kv_heads != model.heads) text += StrCat(" (", model.kv_heads, " of keys and values)");
  text += StrCat(", layers ", model.layers, ", vocab ", model.vocab, "; a micro-batch of ", args.problem.batch.tokens, " tokens");
  if (args.problem.batch.sequences != 0) text += StrCat(" in ", args.problem.batch.sequences, " sequences");
  return StrCat(text, ", ", args.problem.element_bytes, " bytes an element; ", args.ranks, " ranks, ", args.ranks_per_node, " a node\n",
                "Of one rank, one layer, one micro-batch, forward and backward; gathered X ", gather.cache_x ? "kept" : "gathered again",
                ", gathered W ", gather.cache_w ? "kept" : "gathered again", gather.split_backward ? ", backward split" : "",
                "; MB = 10^6 bytes.\n",
                args.count ? "Bytes are those that a dry run of the real layers asked to move" : "Bytes are those of the formulas",
                ". Orders of ranks: slowest axis first.\n\n");
}

std::string Row(const GridPlan& plan, std::int64_t one_d_bytes, int decimals) {
  const AxisTraffic moved = plan.traffic.matrices();
  const double versus = one_d_bytes > 0 ? static_cast<double>(moved.total()) / static_cast<double>(one_d_bytes) : 1;
  std::string row = Print("%-12s", plan.grid.ToString().c_str());
  for (const std::int64_t bytes : {moved.x, moved.y, moved.z, moved.total()}) row += Print(" %9.*f", decimals, Mb(bytes));
  row += Print(" %6.2f %10.*f %6s", versus, decimals, Mb(plan.bytes_leaving_node), ToString(plan.order_of_fewest_bytes).c_str());
  return row + Print(" %10.*f %9.3f %6s\n", decimals, Mb(plan.memory.total()), plan.time.total() * 1e3,
                     ToString(plan.order_of_least_time).c_str());
}

std::string MemoryJson(const GridMemory& memory) {
  return absl::StrCat("{\"parameters\": ", memory.parameters, ", \"gradients\": ", memory.gradients, ", \"optimizer\": ", memory.optimizer,
                      ", \"activations\": ", memory.activations, ", \"gathered_x\": ", memory.gathered_x,
                      ", \"gathered_w\": ", memory.gathered_w, ", \"moving_w\": ", memory.moving_w, ", \"partial_x\": ", memory.partial_x,
                      ", \"partial_y\": ", memory.partial_y, ", \"vectors\": ", memory.vectors,
                      ", \"counted_twice\": ", memory.counted_twice, "}");
}

}  // namespace

std::string GridsText(const PlanGridsArgs& args, const std::vector<GridPlan>& plans) {
  std::int64_t one_d_bytes = 0, largest_bytes = 0;
  for (const GridPlan& plan : plans) {
    largest_bytes = std::max(largest_bytes, plan.traffic.matrices().total());
    if (plan.grid.x == 1 && plan.grid.z == 1) one_d_bytes = plan.traffic.matrices().total();
  }
  std::string text = Heading(args);
  text += Print("%-12s %9s %9s %9s %9s %6s %10s %6s %10s %9s %6s\n", "grid x,y,z", "x MB", "y MB", "z MB", "total MB", "vs 1-D", "node MB",
                "order", "memory MB", "ms", "order");
  for (const GridPlan& plan : plans) {
    if (plan.fits()) text += Row(plan, one_d_bytes, Decimals(largest_bytes));
  }
  std::string refused;
  for (const GridPlan& plan : plans) {
    if (!plan.fits()) refused += StrCat("  ", plan.grid.ToString(), ": ", absl::StrJoin(plan.refusals, "; "), "\n");
  }
  if (!refused.empty()) text += StrCat("\nRefused:\n", refused);
  text += StrCat("\n", WhyItWins(plans));
  text += Print("  For comparison: no grid moves less than %.1f MB a rank", LowerBoundBytes(args.problem, args.ranks) / 1e6);
  const std::optional<double> summa = SummaBytes(args.problem, args.ranks);
  text += summa ? Print("; 2-D with SUMMA would move %.1f MB.\n", *summa / 1e6) : std::string(".\n");
  if (!plans.empty() && plans[0].fits()) {
    text += Print("  The whole model on it: %.1f MB moved and %.1f MB kept by a rank.\n", Mb(plans[0].model_bytes),
                  Mb(plans[0].model_memory.total()));
  }
  return text;
}

std::string GridsJson(const PlanGridsArgs& args, const std::vector<GridPlan>& plans) {
  std::vector<std::string> objects;
  for (const GridPlan& plan : plans) {
    const AxisTraffic moved = plan.traffic.matrices();
    std::vector<std::string> refusals;
    for (const std::string& refusal : plan.refusals) refusals.push_back(absl::StrCat("\"", refusal, "\""));
    const bool winner = plan.fits() && plan.grid == plans[0].grid;
    std::string object = absl::StrCat("{\"x\": ", plan.grid.x, ", \"y\": ", plan.grid.y, ", \"z\": ", plan.grid.z);
    absl::StrAppend(&object, ", \"bytes_x\": ", moved.x, ", \"bytes_y\": ", moved.y, ", \"bytes_z\": ", moved.z,
                    ", \"bytes_total\": ", moved.total(), ", \"bytes_leaving_node\": ", plan.bytes_leaving_node);
    absl::StrAppend(&object, ", \"memory_bytes\": ", plan.memory.total(), Print(", \"predicted_seconds\": %.9g", plan.time.total()));
    absl::StrAppend(&object, ", \"winner\": ", winner ? "true" : "false", ", \"counted_by\": \"", plan.counted ? "dry-run" : "formula",
                    "\", \"refused\": [", absl::StrJoin(refusals, ", "), "]");
    absl::StrAppend(&object, ", \"order_of_fewest_bytes\": \"", ToString(plan.order_of_fewest_bytes), "\", \"order_of_least_time\": \"",
                    ToString(plan.order_of_least_time), "\"");
    absl::StrAppend(&object, ", \"bytes_norm\": ", plan.traffic.norms().total(),
                    ", \"bytes_vectors_per_step\": ", 2 * VectorBytes(args.problem, plan.grid));
    object += Print(", \"seconds\": {\"compute\": %.9g, \"x\": %.9g, \"y\": %.9g, \"z\": %.9g}", plan.time.compute, plan.time.x,
                    plan.time.y, plan.time.z);
    absl::StrAppend(&object, ", \"memory\": ", MemoryJson(plan.memory), ", \"model_bytes\": ", plan.model_bytes,
                    ", \"model_memory_bytes\": ", plan.model_memory.total(), "}");
    objects.push_back(std::move(object));
  }
  return absl::StrCat("[\n", absl::StrJoin(objects, ",\n"), "\n]\n");
}

}  // namespace lycia::plan
