// 1F1B (PipeDream-Flush, DAPPLE; Fan et al. 2021): as few forwards ahead as keep the pipe full, then one forward, one backward.
//
//   1f1b, 4 workers, 4 micro-batches, 1 pipe
//   makespan 21, bubble 42.9 %, peak activations 1 to 4, 1 copy of the weights
//   worker 0 | F0 F1 F2 F3 .  .  .  .  .  .  B0--- .  B1--- .  B2--- .  B3---
//   worker 1 | .  F0 F1 F2 .  .  .  .  B0--- F3 B1--- .  B2--- .  B3--- .  .
//   worker 2 | .  .  F0 F1 .  .  B0--- F2 B1--- F3 B2--- .  B3--- .  .  .  .
//   worker 3 | .  .  .  F0 B0--- F1 B1--- F2 B2--- F3 B3--- .  .  .  .  .  .
//
// Makespan and bubble are GPipe's: (N + D - 1)(F + B) and (D - 1) / (N + D - 1). Peak activations min(N, D - s) on worker s.
#include <algorithm>

#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> OneFOneB(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("1f1b", options));
  Schedule schedule = OnePipe("1f1b", options);
  const int N = options.micro_batches;
  for (int worker = 0; worker < options.workers; ++worker) {
    auto& program = schedule.program[worker];
    const int warm_up = std::min(options.workers - 1 - worker, N);
    for (int m = 0; m < warm_up; ++m) program.push_back(Compute(Op::kForward, 0, worker, m));
    for (int m = 0; m < N - warm_up; ++m) {
      program.push_back(Compute(Op::kForward, 0, worker, warm_up + m));
      program.push_back(Compute(Op::kBackward, 0, worker, m));
    }
    for (int m = N - warm_up; m < N; ++m) program.push_back(Compute(Op::kBackward, 0, worker, m));
  }
  return schedule;
}

}  // namespace lycia::schedule
