// Chimera (Li & Hoefler 2021, sec. 3): f pipes down the workers and f pipes up, so that one direction fills the other's bubbles.
// Here with direct concatenation: the forwards of a unit of D micro-batches fill the tail of the unit before.
//
//   chimera, 4 workers, 4 micro-batches, 2 pipes (up in small letters)
//   makespan 16, bubble 25.0 %, peak activations 3 to 4, 2 copies of the weights
//   worker 0 | F0 F1 .  f2 b2--- f3 b3--- .  B0--- .  .  B1---
//   worker 1 | .  F0 f2 F1 f3 .  b2--- B0--- b3--- B1--- .  .
//   worker 2 | .  f2 F0 f3 F1 .  B0--- b2--- B1--- b3--- .  .
//   worker 3 | f2 f3 .  F0 B0--- F1 B1--- .  b2--- .  .  b3---
//
// Down pipe i has stage s on worker (s + i D/f) mod D, up pipe i on (D - 1 - s + i D/f) mod D. Slot rule: as if F = B = 1, micro-batch
// j of a pipe's share of unit k has
//   slot(F, s) = 2 D k + 2 j + s,    slot(B, s) = 2 D k + 2 j + 2 D - 1 - s,    0 <= j < D/2f;
// no two instructions of a worker share a slot, a message is needed one slot after it is made, and a worker's program is its
// instructions by slot. Durations then stretch the slots.
//
// With K = N / D, f = 1:  makespan (D + 2K - 2) F + K (2D - 2) B, which is 3N + (K + 1)(D - 2) at F = 1, B = 2.
// N < D, N even:          makespan D F + (D + N - 2) B; an odd N takes as long as N + 1.
// 2f pipes:               3N + (K + 1)(D/f - 2) at F = 1, B = 2; 2N + D/f - 2 at F = B.
// Peak activations        D - D/2f + 1 on the outer workers to D on the middle ones, at most N; weights 2f copies.
#include <algorithm>
#include <utility>
#include <vector>

#include "parallel/schedule/bidirectional.h"
#include "parallel/schedule/generators.h"
#include "runtime/core/check.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> Chimera(const GenerateOptions& options) {
  const int D = options.workers;
  LYCIA_ASSIGN_OR_RETURN(Schedule schedule, Bidirectional("chimera", options));

  std::vector<std::vector<std::pair<int, Instruction>>> slots(D);  // [worker]
  int j = 0;                                                       // place of the micro-batch in its pipe's share of the unit
  for (int m = 0; m < options.micro_batches; ++m) {
    const int pipe = schedule.pipe_of_micro_batch[m];
    const bool first_of_share = m % D == 0 || pipe != schedule.pipe_of_micro_batch[m - 1];
    j = first_of_share ? 0 : j + 1;
    const int first_slot = 2 * D * (m / D) + 2 * j;
    for (int stage = 0; stage < D; ++stage) {
      auto& worker_slots = slots[schedule.worker_of[pipe][stage]];
      worker_slots.emplace_back(first_slot + stage, Compute(Op::kForward, pipe, stage, m));
      worker_slots.emplace_back(first_slot + 2 * D - 1 - stage, Compute(Op::kBackward, pipe, stage, m));
    }
  }
  for (int worker = 0; worker < D; ++worker) {
    auto& worker_slots = slots[worker];
    std::sort(worker_slots.begin(), worker_slots.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (std::size_t i = 0; i < worker_slots.size(); ++i) {
      LYCIA_CHECK(i == 0 || worker_slots[i - 1].first < worker_slots[i].first)
          << "worker " << worker << " has two instructions in one slot ";
      schedule.program[worker].push_back(worker_slots[i].second);
    }
  }
  return schedule;
}

}  // namespace lycia::schedule
