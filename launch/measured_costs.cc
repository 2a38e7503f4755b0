#include "launch/measured_costs.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace lycia {
namespace {

using schedule::Instruction;
using schedule::Op;

struct Sum {
  double ns = 0, micro_batches = 0;  // whole ones: a part counts as its share
};

constexpr std::pair<Op, const char*> kKinds[] = {
    {Op::kForward, "F"}, {Op::kBackward, "B"}, {Op::kBackwardInput, "I"}, {Op::kBackwardWeight, "W"}};

}  // namespace

StatusOr<std::string> MeasuredCosts(const schedule::Schedule& schedule, std::span<const RankSpans> workers) {
  std::vector<std::map<Op, Sum>> stages(static_cast<std::size_t>(schedule.shape.stages));
  for (std::size_t w = 0; w < schedule.program.size(); ++w) {
    std::vector<bool> seen(schedule.program[w].size());
    for (const Span& span : workers[w].spans) {
      if (span.instruction < 0 || static_cast<std::size_t>(span.instruction) >= seen.size()) continue;
      seen[static_cast<std::size_t>(span.instruction)] = true;
      const Instruction& instruction = schedule.program[w][static_cast<std::size_t>(span.instruction)];
      if (!schedule::IsCompute(instruction.op)) continue;
      Sum& sum = stages[static_cast<std::size_t>(instruction.stage)][instruction.op];
      sum.ns += static_cast<double>(span.cpu_ns());
      sum.micro_batches += 1.0 / instruction.parts;
    }
    if (std::find(seen.begin(), seen.end(), false) != seen.end()) {
      return InvalidArgument("worker ", w, " recorded no span of an instruction, and dropped ", workers[w].dropped);
    }
  }
  std::vector<std::string> lists;
  for (const std::map<Op, Sum>& sums : stages) {
    std::vector<std::string> items;
    for (const auto& [op, key] : kKinds) {
      const auto sum = sums.find(op);
      if (sum == sums.end()) continue;
      const double ms = sum->second.ns / sum->second.micro_batches / 1e6;
      items.push_back(absl::StrFormat("%s=%.3f", key, std::clamp(ms, 0.001, 999999.0)));  // no cost may be 0, nor beyond six digits
    }
    lists.push_back(absl::StrJoin(items, ","));
  }
  return absl::StrJoin(lists, ";");
}

}  // namespace lycia
