// ZB-H1 (zero bubble; Qi et al. 2023): 1F1B with the backward split. The input gradient I goes on to the next worker at once; the weight
// gradient W, which nobody waits for, fills two thirds of the bubble.
//
//   zb-h1, 4 workers, 8 micro-batches, 1 pipe
//   makespan 27, bubble 11.1 %, peak activations 4, 1 copy of the weights
//   worker 0 | F0 F1 F2 F3 .  .  .  I0 W0 F4 I1 W1 F5 I2 W2 F6 I3 W3 F7 I4 W4 I5 W5 I6 W6 I7 W7
//   worker 1 | .  F0 F1 F2 .  .  I0 F3 I1 W0 F4 I2 W1 F5 I3 W2 F6 I4 W3 F7 I5 W4 I6 W5 I7 W6 W7
//   worker 2 | .  .  F0 F1 .  I0 F2 I1 F3 I2 W0 F4 I3 W1 F5 I4 W2 F6 I5 W3 F7 I6 W4 I7 W5 W6 W7
//   worker 3 | .  .  .  F0 I0 F1 I1 F2 I2 F3 I3 W0 F4 I4 W1 F5 I5 W2 F6 I6 W3 F7 I7 W4 W5 W6 W7
//
// Worker r runs 1F1B with I in the place of B, and W(i - r) after I(i) from i = r on. After its last forward the oldest W follows every I;
// the rest of the W come at the end.
//
// With W <= F, I and N >= D: makespan N (F + I + W) + (D - 1)(F + I - W), which is 3N + D - 1 at F = I = W = 1. Worker r keeps at most
// min(N, D - r) activations until their I and min(N, D) until their W.
#include <algorithm>

#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> ZbH1(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("zb-h1", options));
  Schedule schedule = OnePipe("zb-h1", options);
  const int D = options.workers;
  const int N = options.micro_batches;
  for (int worker = 0; worker < D; ++worker) {
    const auto add = [&](Op op, int m) { schedule.program[worker].push_back(Compute(op, 0, worker, m)); };
    const int warm_up = std::min(D - 1 - worker, N);
    int weight = 0;  // the next W
    for (int m = 0; m < warm_up; ++m) add(Op::kForward, m);
    for (int m = 0; m < N - warm_up; ++m) {
      add(Op::kForward, warm_up + m);
      add(Op::kBackwardInput, m);
      if (m >= worker) add(Op::kBackwardWeight, weight++);
    }
    for (int m = N - warm_up; m < N; ++m) {
      add(Op::kBackwardInput, m);
      add(Op::kBackwardWeight, weight++);
    }
    while (weight < N) add(Op::kBackwardWeight, weight++);
  }
  return schedule;
}

}  // namespace lycia::schedule
