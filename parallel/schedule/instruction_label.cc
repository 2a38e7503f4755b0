#include "parallel/schedule/instruction_label.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace lycia::schedule {

int ChunkOf(const Schedule& schedule, int pipe, int stage) {
  const std::vector<int>& worker_of = schedule.worker_of[pipe];
  return static_cast<int>(std::count(worker_of.begin(), worker_of.begin() + stage, worker_of[stage]));
}

bool NeedsStages(const Schedule& schedule) {
  std::map<std::pair<int, bool>, std::set<int>> stages;  // (worker, up)
  for (int pipe = 0; pipe < schedule.shape.pipes; ++pipe) {
    for (int stage = 0; stage < schedule.shape.stages; ++stage) {
      stages[{schedule.worker_of[pipe][stage], IsUpPipe(schedule.shape, pipe)}].insert(stage);
    }
  }
  return std::any_of(stages.begin(), stages.end(), [](const auto& entry) { return entry.second.size() > 1; });
}

std::string Label(const Schedule& schedule, const Instruction& instruction, const LabelOptions& options) {
  if (instruction.op == Op::kGradientSync) return absl::StrCat("S", instruction.sync_set);
  if (instruction.op == Op::kUpdate) return instruction.sync_set < 0 ? "U" : absl::StrCat("U", instruction.sync_set);
  std::string text(1, OpLetter(instruction.op));
  if (IsUpPipe(schedule.shape, instruction.pipe)) absl::AsciiStrToLower(&text);
  if (options.stage) text = absl::StrCat(instruction.stage, text);
  absl::StrAppend(&text, instruction.micro_batch);
  if (instruction.parts > 1) absl::StrAppend(&text, "/", static_cast<int>(instruction.part));
  return text;
}

}  // namespace lycia::schedule
