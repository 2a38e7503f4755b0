// Verify: slots and loads; see verify.h.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/activations.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/slots.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

// Something that a worker's blocks take and give back.
template <typename Holdings>
Status RunBlocks(const Schedule& schedule, bool (*used_by)(Op), Holdings& holdings) {
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    const auto& program = schedule.program[worker];
    for (std::size_t begin = 0; begin < program.size();) {
      const std::size_t end = BlockEnd(program, begin);
      for (std::size_t i = begin; i < end; ++i) {
        if (used_by(program[i].op)) LYCIA_RETURN_IF_ERROR(holdings.Take({worker, static_cast<int>(i)}, program[i]));
      }
      for (std::size_t i = begin; i < end; ++i) {
        if (used_by(program[i].op)) holdings.GiveBack({worker, static_cast<int>(i)}, program[i]);
      }
      begin = end;
    }
  }
  return OkStatus();
}

std::size_t StageIndex(const ScheduleShape& shape, const Instruction& compute) {
  return static_cast<std::size_t>(compute.pipe) * shape.stages + compute.stage;
}

// Who is in which slot of one kind.
class SlotOwners {
 public:
  SlotOwners(const Schedule& schedule, const SlotKind& kind)
      : schedule_(schedule),
        kind_(kind),
        lifetimes_(Lifetimes(schedule, kind.used_by)),
        slot_of_(lifetimes_.size(), -1),
        first_slot_(1, 0) {
    for (const auto& stages : schedule.*kind.count) {
      for (const int count : stages) first_slot_.push_back(first_slot_.back() + std::max(count, 0));
    }
    owner_of_.assign(first_slot_.back(), -1);
  }

  Status Take(const Place& place, const Instruction& compute) {
    const auto fail = [&](const auto&... parts) { return ErrorAt(schedule_, place, absl::StrCat(kind_.name, " slot ", parts...)); };
    const std::size_t activation = ActivationIndex(schedule_.shape, compute);
    const int slot = compute.*kind_.slot;
    const int slots = (schedule_.*kind_.count)[compute.pipe][compute.stage];
    if (slot < 0 || slot >= slots) {
      return fail(slot, " is not one of the ", slots, " of pipe ", compute.pipe, ", stage ", compute.stage);
    }
    int& owner = owner_of_[first_slot_[StageIndex(schedule_.shape, compute)] + slot];
    if (lifetimes_[activation].first == place.index) {
      if (owner >= 0) return fail(slot, " still holds micro-batch ", owner);
      owner = compute.micro_batch;
      slot_of_[activation] = slot;
    } else if (slot_of_[activation] != slot) {
      return fail(slot, " is not the one that its ", kind_.filled_by, " filled, ", slot_of_[activation]);
    }
    return OkStatus();
  }

  // Its block has ended.
  void GiveBack(const Place& place, const Instruction& compute) {
    if (lifetimes_[ActivationIndex(schedule_.shape, compute)].last != place.index) return;
    owner_of_[first_slot_[StageIndex(schedule_.shape, compute)] + compute.*kind_.slot] = -1;
  }

 private:
  const Schedule& schedule_;
  const SlotKind& kind_;
  const std::vector<Lifetime> lifetimes_;
  std::vector<int> slot_of_;             // [activation]
  std::vector<std::size_t> first_slot_;  // [(pipe, stage)] of all slots, those of a stage one after the other
  std::vector<int> owner_of_;            // [slot] micro-batch, or -1
};

// How much is kept at once, against what options allow.
class Budget {
 public:
  Budget(const Schedule& schedule, const VerifyOptions& options)
      : schedule_(schedule),
        options_(options),
        lifetimes_(Lifetimes(schedule)),
        kept_(schedule.shape.workers, 0),
        kept_of_(static_cast<std::size_t>(schedule.shape.pipes) * schedule.shape.stages, 0) {}

  Status Take(const Place& place, const Instruction& compute) {
    const auto fail = [&](const auto&... parts) { return ErrorAt(schedule_, place, absl::StrCat(parts...)); };
    if (lifetimes_[ActivationIndex(schedule_.shape, compute)].first != place.index) return OkStatus();
    const int kept = ++kept_[place.worker];
    const int kept_of_stage = ++kept_of_[StageIndex(schedule_.shape, compute)];
    if (options_.max_activations > 0 && kept > options_.max_activations) {
      return fail("keeps ", kept, " activations, the budget is ", options_.max_activations);
    }
    const double stages = static_cast<double>(kept) / schedule_.shape.chunks;
    if (options_.max_stage_activations > 0 && stages > options_.max_stage_activations) {
      return fail("keeps the activations of ", stages, " stages of D, the budget is ", options_.max_stage_activations);
    }
    if (!options_.quotas.empty() && kept_of_stage > options_.quotas[compute.pipe][compute.stage]) {
      return fail("keeps ", kept_of_stage, " activations of pipe ", compute.pipe, ", stage ", compute.stage, ", the quota is ",
                  options_.quotas[compute.pipe][compute.stage]);
    }
    return OkStatus();
  }

  void GiveBack(const Place& place, const Instruction& compute) {
    if (lifetimes_[ActivationIndex(schedule_.shape, compute)].last != place.index) return;
    --kept_[place.worker];
    --kept_of_[StageIndex(schedule_.shape, compute)];
  }

 private:
  const Schedule& schedule_;
  const VerifyOptions& options_;
  const std::vector<Lifetime> lifetimes_;
  std::vector<int> kept_;     // [worker]
  std::vector<int> kept_of_;  // [(pipe, stage)]
};

}  // namespace

Status VerifyMemory(const Schedule& schedule, const VerifyOptions& options) {
  const ScheduleShape& shape = schedule.shape;
  const auto sized = [&](const std::vector<std::vector<int>>& table) {
    return static_cast<int>(table.size()) == shape.pipes && std::all_of(table.begin(), table.end(), [&](const std::vector<int>& stages) {
             return static_cast<int>(stages.size()) == shape.stages;
           });
  };
  if (options.completed) {
    for (const SlotKind& kind : kSlotKinds) {
      if (!sized(schedule.*kind.count)) {
        return InvalidArgument("schedule ", schedule.name, ": ", kind.name, "_slots does not list every pipe and stage; run AssignSlots");
      }
      SlotOwners owners(schedule, kind);
      LYCIA_RETURN_IF_ERROR(RunBlocks(schedule, kind.used_by, owners));
    }
  }
  if (!options.quotas.empty() && !sized(options.quotas)) {
    return InvalidArgument("schedule ", schedule.name, ": the quotas do not list every pipe and stage");
  }
  Budget budget(schedule, options);
  return RunBlocks(schedule, IsCompute, budget);
}

Status VerifyLoads(const Schedule& schedule) {
  const ScheduleShape& shape = schedule.shape;
  const std::vector<Lifetime> lifetimes = Lifetimes(schedule);
  std::vector<int> loaded(lifetimes.size(), -1);  // [activation] index of the load
  for (int worker = 0; worker < shape.workers; ++worker) {
    const auto& program = schedule.program[worker];
    int behind_compute = 0;  // index behind the last block of compute before this one
    for (int i = 0; i < static_cast<int>(program.size()); ++i) {
      const Instruction& instruction = program[i];
      const auto fail = [&](const auto&... parts) { return ErrorAt(schedule, {worker, i}, absl::StrCat(parts...)); };
      const bool outer = instruction.stage == 0 || instruction.stage == shape.stages - 1;
      if (instruction.op == Op::kLoad) {
        int& load = loaded[ActivationIndex(shape, instruction)];
        if (!outer) return fail("only the first and the last stage load");
        if (instruction.parts != 1 || instruction.part != 0) return fail("a load is of a whole micro-batch");
        if (load >= 0) return fail("loads the micro-batch a second time");
        load = i;
      }
      if (!IsCompute(instruction.op)) continue;
      const std::size_t activation = ActivationIndex(shape, instruction);
      if (outer && lifetimes[activation].first == i) {
        const int load = loaded[activation];
        if (load < 0) return fail("no load comes before it");
        if (program[load].stash_slot != instruction.stash_slot) return fail("its load went to another stash slot");
        if (program[load].input_slot != instruction.input_slot) return fail("its load went to another input slot");
        if (load < behind_compute) return fail("its load is not right before it, so the stash slot may be in use");
      }
      if (!instruction.paired_with_next) behind_compute = i + 1;
    }
  }
  return OkStatus();
}

}  // namespace lycia::schedule
