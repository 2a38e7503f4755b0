// Verify: stash slots and loads; see verify.h.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

// (stage, micro-batch); the micro-batch fixes the pipe.
using Activation = std::pair<int, int>;

std::map<Activation, int> LastUses(const std::vector<Instruction>& program) {
  std::map<Activation, int> last;
  for (int i = 0; i < static_cast<int>(program.size()); ++i) {
    if (IsCompute(program[i].op)) last[{program[i].stage, program[i].micro_batch}] = i;
  }
  return last;
}

}  // namespace

Status VerifyMemory(const Schedule& schedule, const VerifyOptions& options) {
  const ScheduleShape& shape = schedule.shape;
  if (options.completed) {
    bool sized = static_cast<int>(schedule.stash_slots.size()) == shape.pipes;
    for (const auto& slots : schedule.stash_slots) sized = sized && static_cast<int>(slots.size()) == shape.stages;
    if (!sized) return InvalidArgument("schedule ", schedule.name, ": stash_slots does not list every pipe and stage; run AssignSlots");
  }
  for (int worker = 0; worker < shape.workers; ++worker) {
    const auto& program = schedule.program[worker];
    const auto last_uses = LastUses(program);
    std::map<Activation, int> slot_of;                         // what is kept, and where
    std::map<std::pair<int, int>, std::vector<int>> owner_of;  // (pipe, stage) -> [slot] micro-batch, or -1
    for (int i = 0; i < static_cast<int>(program.size()); ++i) {
      const Instruction& instruction = program[i];
      const auto fail = [&](const auto&... parts) { return ErrorAt(schedule, {worker, i}, absl::StrCat(parts...)); };
      if (!IsCompute(instruction.op)) continue;
      const Activation activation{instruction.stage, instruction.micro_batch};
      const int slot = instruction.stash_slot;
      if (options.completed) {
        auto& owners = owner_of[{instruction.pipe, instruction.stage}];
        owners.resize(schedule.stash_slots[instruction.pipe][instruction.stage], -1);
        if (slot < 0 || slot >= static_cast<int>(owners.size())) {
          return fail("stash slot ", slot, " is not one of the ", owners.size(), " of pipe ", instruction.pipe, ", stage ",
                      instruction.stage);
        }
        if (instruction.op == Op::kForward) {
          if (owners[slot] >= 0) return fail("stash slot ", slot, " still holds micro-batch ", owners[slot]);
          owners[slot] = instruction.micro_batch;
        } else if (slot_of[activation] != slot) {
          return fail("stash slot ", slot, " is not the one that its forward filled, ", slot_of[activation]);
        }
        if (last_uses.at(activation) == i) owners[slot] = -1;
      }
      if (instruction.op == Op::kForward) slot_of[activation] = slot;
      if (options.max_activations > 0 && static_cast<int>(slot_of.size()) > options.max_activations) {
        return fail("keeps ", slot_of.size(), " activations, the budget is ", options.max_activations);
      }
      if (last_uses.at(activation) == i) slot_of.erase(activation);
    }
  }
  return OkStatus();
}

Status VerifyLoads(const Schedule& schedule) {
  const int last_stage = schedule.shape.stages - 1;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    const auto& program = schedule.program[worker];
    std::map<Activation, int> loaded;  // index of the load
    for (int i = 0; i < static_cast<int>(program.size()); ++i) {
      const Instruction& instruction = program[i];
      const auto fail = [&](const auto&... parts) { return ErrorAt(schedule, {worker, i}, absl::StrCat(parts...)); };
      const bool outer = instruction.stage == 0 || instruction.stage == last_stage;
      const Activation key{instruction.stage, instruction.micro_batch};
      if (instruction.op == Op::kLoad) {
        if (!outer) return fail("only the first and the last stage load");
        if (!loaded.emplace(key, i).second) return fail("loads the micro-batch a second time");
      } else if (instruction.op == Op::kForward && outer) {
        const auto load = loaded.find(key);
        if (load == loaded.end()) return fail("no load comes before it");
        if (program[load->second].stash_slot != instruction.stash_slot) return fail("its load went to another stash slot");
        for (int between = load->second + 1; between < i; ++between) {
          if (IsCompute(program[between].op)) return fail("its load is not right before it, so the stash slot may be in use");
        }
      }
    }
  }
  return OkStatus();
}

}  // namespace lycia::schedule
