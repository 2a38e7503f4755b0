// Verify: who joins which gradient synchronisation, and when; see verify.h. That no rendezvous deadlocks is the replay's proof.
#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

// Every stage has its own set; every set is ascending, in range and there once.
Status VerifySets(const Schedule& schedule) {
  const auto& sets = schedule.sync_sets;
  std::vector<bool> alone(schedule.shape.stages, false);
  for (std::size_t i = 0; i < sets.size(); ++i) {
    const auto& stages = sets[i].stages;
    const bool ascending = std::is_sorted(stages.begin(), stages.end()) && std::adjacent_find(stages.begin(), stages.end()) == stages.end();
    if (stages.empty() || !ascending || stages.front() < 0 || stages.back() >= schedule.shape.stages) {
      return InvalidArgument("schedule ", schedule.name, ": sync set ", i, " is not an ascending list of stages");
    }
    const bool twice = stages.size() == 1 ? alone[stages[0]] : std::find(sets.begin(), sets.begin() + i, sets[i]) != sets.begin() + i;
    if (twice) return InvalidArgument("schedule ", schedule.name, ": sync set ", i, " is there twice");
    if (stages.size() == 1) alone[stages[0]] = true;
  }
  const auto missing = std::find(alone.begin(), alone.end(), false);
  if (missing == alone.end()) return OkStatus();
  return InvalidArgument("schedule ", schedule.name, ": stage ", missing - alone.begin(), " has no sync set; run InsertGradientSync");
}

// One worker's joins and updates, in the order of its program.
class Worker {
 public:
  Worker(const Schedule& schedule, int worker, const std::vector<bool>& member, bool set_updates)
      : schedule_(schedule),
        worker_(worker),
        member_(member),
        set_updates_(set_updates),
        joined_(member.size(), false),
        updated_(member.size(), false),
        synced_stage_(schedule.shape.stages, false),
        updated_stage_(schedule.shape.stages, false) {}

  Status Run(bool training) {
    const auto& program = schedule_.program[worker_];
    for (int i = 0; i < static_cast<int>(program.size()); ++i) {
      const std::string why = Advance(program[i], i + 1 == static_cast<int>(program.size()), training);
      if (!why.empty()) return ErrorAt(schedule_, {worker_, i}, why);
    }
    if (!training) return OkStatus();
    const Place end{worker_, static_cast<int>(program.size())};
    for (std::size_t set = 0; set < member_.size(); ++set) {
      if (!member_[set]) continue;
      if (!joined_[set])
        return ErrorAt(schedule_, end, absl::StrCat("the worker never joins sync set ", set, ", of which it holds a stage"));
      if (set_updates_ && !updated_[set]) return ErrorAt(schedule_, end, absl::StrCat("sync set ", set, " has no update, others have"));
    }
    if (program.empty() || program.back().op != Op::kUpdate || program.back().sync_set >= 0) {
      return ErrorAt(schedule_, end, "the program does not end with an update");
    }
    return OkStatus();
  }

 private:
  // The rule that the instruction breaks, or "".
  std::string Advance(const Instruction& instruction, bool last, bool training) {
    const int set = instruction.sync_set;
    if (IsCompute(instruction.op)) return Compute(instruction);
    if (instruction.op == Op::kUpdate) {
      if (!training) return "an evaluation does not update";
      if (set < 0) return last ? "" : "instructions follow the update";
    } else if (instruction.op != Op::kGradientSync) {
      return "";
    }
    if (!training) return "an evaluation has no gradients";
    if (set < 0 || set >= static_cast<int>(member_.size())) return absl::StrCat("there are ", member_.size(), " sync sets");
    if (!member_[set]) return "the worker holds no stage of the set";
    if (instruction.op == Op::kGradientSync) {
      if (joined_[set]) return "joins the set a second time";
      joined_[set] = true;
      for (const int stage : schedule_.sync_sets[set].stages) synced_stage_[stage] = true;
      return "";
    }
    if (!joined_[set]) return "updates before its gradient is synchronised";
    if (updated_[set]) return "updates the set a second time";
    updated_[set] = true;
    for (const int stage : schedule_.sync_sets[set].stages) updated_stage_[stage] = true;
    return "";
  }

  std::string Compute(const Instruction& compute) const {
    if (compute.op != Op::kForward && synced_stage_[compute.stage]) {
      return absl::StrCat("the gradient of stage ", compute.stage, " was synchronised before");
    }
    return updated_stage_[compute.stage] ? absl::StrCat("stage ", compute.stage, " was updated before") : "";
  }

  const Schedule& schedule_;
  const int worker_;
  const std::vector<bool>& member_;  // [set] the worker holds a stage of it
  const bool set_updates_;
  std::vector<bool> joined_, updated_;              // [set]
  std::vector<bool> synced_stage_, updated_stage_;  // [stage]
};

// Two workers that join the same two sets in different orders wait for each other. Longer cycles are left to the replay.
Status VerifyJoinOrder(const Schedule& schedule) {
  std::map<std::pair<int, int>, int> first_worker;  // (earlier, later set) -> who joins them so
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    std::vector<int> earlier;
    for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      if (instruction.op != Op::kGradientSync) continue;
      for (const int set : earlier) {
        const auto other = first_worker.find({instruction.sync_set, set});
        first_worker.emplace(std::pair(set, instruction.sync_set), worker);
        if (other == first_worker.end()) continue;
        return ErrorAt(schedule, {worker, i},
                       absl::StrCat("joins sync set ", instruction.sync_set, " after set ", set, ", worker ", other->second,
                                    " before it: each waits for the other"));
      }
      earlier.push_back(instruction.sync_set);
    }
  }
  return OkStatus();
}

}  // namespace

Status VerifySync(const Schedule& schedule, bool training) {
  const std::size_t num_sets = training ? schedule.sync_sets.size() : 0;
  if (training) LYCIA_RETURN_IF_ERROR(VerifySets(schedule));
  std::vector<std::vector<bool>> member(schedule.shape.workers, std::vector<bool>(num_sets, false));
  for (std::size_t set = 0; set < num_sets; ++set) {
    for (const int worker : WorkersOfSyncSet(schedule, schedule.sync_sets[set])) member[worker][set] = true;
  }
  bool set_updates = false;
  for (const auto& program : schedule.program) {
    for (const Instruction& instruction : program) set_updates |= instruction.op == Op::kUpdate && instruction.sync_set >= 0;
  }
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    LYCIA_RETURN_IF_ERROR(Worker(schedule, worker, member[worker], set_updates).Run(training));
  }
  return VerifyJoinOrder(schedule);
}

}  // namespace lycia::schedule
