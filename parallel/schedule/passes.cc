#include "parallel/schedule/passes.h"

#include <functional>
#include <queue>
#include <utility>

#include "parallel/schedule/activations.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/slots.h"

namespace lycia::schedule {

Schedule InsertLoads(Schedule schedule) {
  const std::vector<Lifetime> lifetimes = Lifetimes(schedule);
  for (auto& program : schedule.program) {
    std::vector<Instruction> loaded;
    for (std::size_t begin = 0; begin < program.size();) {
      const std::size_t end = BlockEnd(program, begin);
      for (std::size_t i = begin; i < end; ++i) {
        const bool outer = program[i].stage == 0 || program[i].stage == schedule.shape.stages - 1;
        if (program[i].op != Op::kForward || !outer) continue;
        if (lifetimes[ActivationIndex(schedule.shape, program[i])].first != static_cast<int>(i)) continue;
        Instruction load;
        load.op = Op::kLoad;
        load.pipe = program[i].pipe;
        load.stage = program[i].stage;
        load.micro_batch = program[i].micro_batch;
        loaded.push_back(load);
      }
      loaded.insert(loaded.end(), program.begin() + static_cast<std::ptrdiff_t>(begin), program.begin() + static_cast<std::ptrdiff_t>(end));
      begin = end;
    }
    program = std::move(loaded);
  }
  return schedule;
}

namespace {

// The slots of one kind of one (pipe, stage).
struct Slots {
  int count = 0;
  std::priority_queue<int, std::vector<int>, std::greater<>> free;

  int Take() {
    if (free.empty()) return count++;
    const int slot = free.top();
    free.pop();
    return slot;
  }
};

void AssignSlotsOf(const SlotKind& kind, Schedule& schedule) {
  const ScheduleShape& shape = schedule.shape;
  const std::vector<Lifetime> lifetimes = Lifetimes(schedule, kind.used_by);
  std::vector<int> slot_of(lifetimes.size(), -1);  // [activation]
  std::vector<Slots> slots(static_cast<std::size_t>(shape.pipes) * shape.stages);
  const auto slots_of = [&](const Instruction& compute) -> Slots& {
    return slots[static_cast<std::size_t>(compute.pipe) * shape.stages + compute.stage];
  };
  for (auto& program : schedule.program) {
    for (std::size_t begin = 0; begin < program.size();) {
      const std::size_t end = BlockEnd(program, begin);
      for (std::size_t i = begin; i < end; ++i) {
        if (!kind.used_by(program[i].op)) continue;
        const std::size_t activation = ActivationIndex(shape, program[i]);
        if (lifetimes[activation].first == static_cast<int>(i)) slot_of[activation] = slots_of(program[i]).Take();
        program[i].*kind.slot = slot_of[activation];
      }
      for (std::size_t i = begin; i < end; ++i) {
        if (!kind.used_by(program[i].op)) continue;
        if (lifetimes[ActivationIndex(shape, program[i])].last == static_cast<int>(i))
          slots_of(program[i]).free.push(program[i].*kind.slot);
      }
      begin = end;
    }
    for (Instruction& instruction : program) {
      if (instruction.op == Op::kLoad && kind.loaded) instruction.*kind.slot = slot_of[ActivationIndex(shape, instruction)];
    }
  }
  auto& count = schedule.*kind.count;
  count.assign(shape.pipes, std::vector<int>(shape.stages, 0));
  for (int pipe = 0; pipe < shape.pipes; ++pipe) {
    for (int stage = 0; stage < shape.stages; ++stage) {
      count[pipe][stage] = slots[static_cast<std::size_t>(pipe) * shape.stages + stage].count;
    }
  }
}

}  // namespace

Schedule AssignSlots(Schedule schedule) {
  for (const SlotKind& kind : kSlotKinds) AssignSlotsOf(kind, schedule);
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
  schedule = InsertGradientSync(std::move(schedule), options.sync, options.tied, options.costs);
  if (options.update == UpdateMode::kEager) schedule = InsertSetUpdates(std::move(schedule), options.costs);
  return AssignStreams(AssignSlots(std::move(schedule)));
}

}  // namespace lycia::schedule
