#include "parallel/schedule/passes.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "parallel/schedule/messages.h"
#include "runtime/core/check.h"

namespace lycia::schedule {

Schedule InsertLoads(Schedule schedule) {
  for (auto& program : schedule.program) {
    std::vector<Instruction> loaded;
    for (const Instruction& instruction : program) {
      const bool outer = instruction.stage == 0 || instruction.stage == schedule.shape.stages - 1;
      if (instruction.op == Op::kForward && outer) {
        Instruction load = instruction;
        load.op = Op::kLoad;
        load.paired_with_next = false;
        loaded.push_back(load);
      }
      loaded.push_back(instruction);
    }
    program = std::move(loaded);
  }
  return schedule;
}

Schedule InsertGradientSync(Schedule schedule, GradientSyncMode mode, const std::vector<SyncSet>& tied) {
  LYCIA_CHECK(mode == GradientSyncMode::kLazy);
  if (!HasBackward(schedule)) return schedule;
  schedule.sync_sets.clear();
  for (int stage = 0; stage < schedule.shape.stages; ++stage) schedule.sync_sets.push_back(SyncSet{{stage}});
  for (SyncSet set : tied) {
    std::sort(set.stages.begin(), set.stages.end());
    set.stages.erase(std::unique(set.stages.begin(), set.stages.end()), set.stages.end());
    LYCIA_CHECK(!set.stages.empty() && set.stages.front() >= 0 && set.stages.back() < schedule.shape.stages)
        << "a tied set names no stage ";
    if (std::find(schedule.sync_sets.begin(), schedule.sync_sets.end(), set) == schedule.sync_sets.end()) schedule.sync_sets.push_back(set);
  }
  for (int i = 0; i < static_cast<int>(schedule.sync_sets.size()); ++i) {
    for (const int worker : WorkersOfSyncSet(schedule, schedule.sync_sets[i])) {
      Instruction sync;
      sync.op = Op::kGradientSync;
      sync.stage = schedule.sync_sets[i].stages.front();
      sync.sync_set = i;
      schedule.program[worker].push_back(sync);
    }
  }
  Instruction update;
  update.op = Op::kUpdate;
  for (auto& program : schedule.program) program.push_back(update);
  return schedule;
}

namespace {

// The slots of one (pipe, stage), and who is in them.
struct Stash {
  std::vector<bool> taken;
  std::map<int, int> slot_of;  // micro-batch -> slot

  int Take(int micro_batch) {
    const int slot = static_cast<int>(std::find(taken.begin(), taken.end(), false) - taken.begin());
    if (slot == static_cast<int>(taken.size())) taken.push_back(false);
    taken[slot] = true;
    slot_of[micro_batch] = slot;
    return slot;
  }
  void Free(int micro_batch) { taken[slot_of[micro_batch]] = false; }
};

// Where each activation is used last: (stage, micro-batch) -> index in the worker's program.
std::map<std::pair<int, int>, std::size_t> LastUses(const std::vector<Instruction>& program) {
  std::map<std::pair<int, int>, std::size_t> last;
  for (std::size_t i = 0; i < program.size(); ++i) {
    if (IsCompute(program[i].op)) last[{program[i].stage, program[i].micro_batch}] = i;
  }
  return last;
}

}  // namespace

Schedule AssignSlots(Schedule schedule) {
  const ScheduleShape& shape = schedule.shape;
  schedule.stash_slots.assign(shape.pipes, std::vector<int>(shape.stages, 0));
  for (auto& program : schedule.program) {
    const auto last_uses = LastUses(program);
    std::map<std::pair<int, int>, Stash> stashes;      // (pipe, stage)
    std::map<std::pair<int, int>, std::size_t> loads;  // (stage, micro-batch) -> index
    for (std::size_t i = 0; i < program.size(); ++i) {
      Instruction& instruction = program[i];
      const std::pair key{instruction.stage, instruction.micro_batch};
      if (instruction.op == Op::kLoad) loads[key] = i;
      if (!IsCompute(instruction.op)) continue;
      Stash& stash = stashes[{instruction.pipe, instruction.stage}];
      if (instruction.op == Op::kForward) {
        instruction.stash_slot = stash.Take(instruction.micro_batch);
        if (const auto load = loads.find(key); load != loads.end()) program[load->second].stash_slot = instruction.stash_slot;
      } else {
        instruction.stash_slot = stash.slot_of[instruction.micro_batch];
      }
      if (last_uses.at(key) == i) stash.Free(instruction.micro_batch);
    }
    for (const auto& [key, stash] : stashes) schedule.stash_slots[key.first][key.second] = static_cast<int>(stash.taken.size());
  }
  return schedule;
}

Schedule AssignStreams(Schedule schedule) {
  for (auto& program : schedule.program) {
    for (Instruction& instruction : program) {
      const bool message = IsSend(instruction.op) || IsReceive(instruction.op);
      instruction.stream = message ? 1 : instruction.op == Op::kGradientSync ? 2 : 0;
    }
  }
  return schedule;
}

Schedule Complete(Schedule schedule, const CompleteOptions& options) {
  schedule = InsertCommunication(InsertLoads(std::move(schedule)));
  schedule = InsertGradientSync(std::move(schedule), options.sync, options.tied);
  return AssignStreams(AssignSlots(std::move(schedule)));
}

}  // namespace lycia::schedule
