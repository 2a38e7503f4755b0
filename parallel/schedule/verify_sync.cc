// Verify: who joins which gradient synchronisation, and when; see verify.h. That no rendezvous deadlocks is the replay's proof.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

bool Contains(const std::vector<int>& sorted, int value) { return std::binary_search(sorted.begin(), sorted.end(), value); }

// Every stage has its own set; every set is ascending, in range and there once.
Status VerifySets(const Schedule& schedule) {
  const auto& sets = schedule.sync_sets;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    const auto& stages = sets[i].stages;
    const bool ascending = std::is_sorted(stages.begin(), stages.end()) && std::adjacent_find(stages.begin(), stages.end()) == stages.end();
    if (stages.empty() || !ascending || stages.front() < 0 || stages.back() >= schedule.shape.stages) {
      return InvalidArgument("schedule ", schedule.name, ": sync set ", i, " is not an ascending list of stages");
    }
    if (std::find(sets.begin(), sets.begin() + i, sets[i]) != sets.begin() + i) {
      return InvalidArgument("schedule ", schedule.name, ": sync set ", i, " is there twice");
    }
  }
  for (int stage = 0; stage < schedule.shape.stages; ++stage) {
    if (std::find(sets.begin(), sets.end(), SyncSet{{stage}}) == sets.end()) {
      return InvalidArgument("schedule ", schedule.name, ": stage ", stage, " has no sync set; run InsertGradientSync");
    }
  }
  return OkStatus();
}

}  // namespace

Status VerifySync(const Schedule& schedule, bool training) {
  if (training) LYCIA_RETURN_IF_ERROR(VerifySets(schedule));
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    const auto& program = schedule.program[worker];
    const int size = static_cast<int>(program.size());
    std::vector<bool> joined(schedule.sync_sets.size(), false);
    for (int i = 0; i < size; ++i) {
      const Instruction& instruction = program[i];
      const auto fail = [&](const auto&... parts) { return ErrorAt(schedule, {worker, i}, absl::StrCat(parts...)); };
      if (instruction.op == Op::kUpdate) {
        if (!training) return fail("an evaluation does not update");
        if (i != size - 1) return fail("instructions follow the update");
      }
      if (IsCompute(instruction.op) && instruction.op != Op::kForward) {
        for (std::size_t set = 0; set < joined.size(); ++set) {
          if (joined[set] && Contains(schedule.sync_sets[set].stages, instruction.stage)) {
            return fail("the gradient of stage ", instruction.stage, " was synchronised before");
          }
        }
      }
      if (instruction.op != Op::kGradientSync) continue;
      if (!training) return fail("an evaluation has no gradients");
      const int set = instruction.sync_set;
      if (set < 0 || set >= static_cast<int>(joined.size())) return fail("there are ", joined.size(), " sync sets");
      if (joined[set]) return fail("joins the set a second time");
      if (!Contains(WorkersOfSyncSet(schedule, schedule.sync_sets[set]), worker)) return fail("the worker holds no stage of the set");
      joined[set] = true;
    }
    if (!training) continue;
    const Place end{worker, size};
    for (std::size_t set = 0; set < joined.size(); ++set) {
      if (!joined[set] && Contains(WorkersOfSyncSet(schedule, schedule.sync_sets[set]), worker)) {
        return ErrorAt(schedule, end, absl::StrCat("the worker never joins sync set ", set, ", of which it holds a stage"));
      }
    }
    if (size == 0 || program.back().op != Op::kUpdate) return ErrorAt(schedule, end, "the program does not end with an update");
  }
  return OkStatus();
}

}  // namespace lycia::schedule
