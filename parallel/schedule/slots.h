// Slots: what a micro-batch keeps on a stage between its instructions. Three kinds, because a split backward frees memory in two steps.
//
//                LOAD  F  I  W      LOAD  F  B
//   stash_slot    +----+--+--+       +----+--+    what the weight gradient reads
//   input_slot    +----+--+          +----+--+    what only the input gradient reads
//   handoff_slot          +--+                    what the input gradient leaves for the weight gradient
//
// A slot belongs to its micro-batch from the first instruction that uses it to the last; all parts of a micro-batch share it. A paired
// block counts as one: its members take slots before any of them gives one back.
#ifndef LYCIA_PARALLEL_SCHEDULE_SLOTS_H_
#define LYCIA_PARALLEL_SCHEDULE_SLOTS_H_

#include <array>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

struct SlotKind {
  const char* name;
  const char* filled_by;
  int Instruction::*slot;
  std::vector<std::vector<int>> Schedule::*count;
  bool (*used_by)(Op);  // compute instructions
  bool loaded;          // the micro-batch's load uses it too
};

inline constexpr std::array<SlotKind, 3> kSlotKinds = {{
    {"stash", "forward", &Instruction::stash_slot, &Schedule::stash_slots, [](Op op) { return IsCompute(op); }, true},
    {"input", "forward", &Instruction::input_slot, &Schedule::input_slots, [](Op op) { return IsCompute(op) && op != Op::kBackwardWeight; },
     true},
    {"handoff", "input gradient", &Instruction::handoff_slot, &Schedule::handoff_slots,
     [](Op op) { return op == Op::kBackwardInput || op == Op::kBackwardWeight; }, false},
}};

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_SLOTS_H_
