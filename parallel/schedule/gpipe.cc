// GPipe (Huang et al. 2019): every forward, then every backward, in the order of the micro-batches.
//
//   gpipe, 4 workers, 4 micro-batches, 1 pipe
//   makespan 21, bubble 42.9 %, peak activations 4, 1 copy of the weights
//   worker 0 | F0 F1 F2 F3 .  .  .  .  .  .  .  .  .  B0--- B1--- B2--- B3---
//   worker 1 | .  F0 F1 F2 F3 .  .  .  .  .  .  B0--- B1--- B2--- B3--- .  .
//   worker 2 | .  .  F0 F1 F2 F3 .  .  .  B0--- B1--- B2--- B3--- .  .  .  .
//   worker 3 | .  .  .  F0 F1 F2 F3 B0--- B1--- B2--- B3--- .  .  .  .  .  .
//
// Makespan (N + D - 1)(F + B), bubble (D - 1) / (N + D - 1), peak activations N on every worker.
#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> GPipe(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("gpipe", options));
  Schedule schedule = OnePipe("gpipe", options);
  for (int worker = 0; worker < options.workers; ++worker) {
    auto& program = schedule.program[worker];
    for (int m = 0; m < options.micro_batches; ++m) program.push_back(Compute(Op::kForward, 0, worker, m));
    for (int m = 0; m < options.micro_batches; ++m) program.push_back(Compute(Op::kBackward, 0, worker, m));
  }
  return schedule;
}

}  // namespace lycia::schedule
