// ZB-H2 (zero bubble; Qi et al. 2023): twice the forwards ahead of ZB-H1, so that a worker that has begun never waits. The optimizer's
// steps must then be staggered like the ends of the workers; behind a barrier the step takes as long as ZB-H1's.
//
//   zb-h2, 4 workers, 8 micro-batches, 1 pipe
//   makespan 27, bubble 11.1 %, peak activations 7, 1 copy of the weights
//   worker 0 | F0 F1 F2 F3 F4 F5 F6 I0 W0 F7 I1 W1 I2 W2 I3 W3 I4 W4 I5 W5 I6 W6 I7 W7 .  .  .
//   worker 1 | .  F0 F1 F2 F3 F4 I0 F5 I1 F6 I2 W0 F7 I3 W1 I4 W2 I5 W3 I6 W4 I7 W5 W6 W7 .  .
//   worker 2 | .  .  F0 F1 F2 I0 F3 I1 F4 I2 F5 I3 F6 I4 W0 F7 I5 W1 I6 W2 I7 W3 W4 W5 W6 W7 .
//   worker 3 | .  .  .  F0 I0 F1 I1 F2 I2 F3 I3 F4 I4 F5 I5 F6 I6 W0 F7 I7 W1 W2 W3 W4 W5 W6 W7
//
// Worker r runs 2 (D - r) - 1 forwards ahead, then I F I F ...; W are put off to the tail, where the oldest follows every I, but as soon as
// the worker would keep more than M activations, the oldest W makes room. M is 2D - 1, the published memory, or max_activations: with
// M >= N no W comes before the tail.
//
// With W <= F, I and N >= 2D, from a worker's first instruction to its last: N (F + I + W) + (D - 1)(F + I - 2W) at most, no idle time at
// F = I = W; makespan there N (F + I + W) + (D - 1) F. Worker r keeps at most min(N, 2 (D - r) - 1) activations until their I and
// min(N, M) until their W.
#include <algorithm>

#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> ZbH2(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("zb-h2", options));
  const int D = options.workers;
  const int N = options.micro_batches;
  const int M = options.max_activations == 0 ? 2 * D - 1 : options.max_activations;
  if (M < std::min(N, 2 * D - 1)) {
    return InvalidArgument("zb-h2 runs ", std::min(N, 2 * D - 1), " forwards ahead, so that ", M,
                           " activations are too few; use zb-h1, which keeps ", std::min(N, D));
  }
  Schedule schedule = OnePipe("zb-h2", options);
  for (int worker = 0; worker < D; ++worker) {
    const auto add = [&](Op op, int m) { schedule.program[worker].push_back(Compute(op, 0, worker, m)); };
    const int ahead = 2 * (D - worker) - 1;
    const int warm_up = std::min(ahead, N);
    int weight = 0;  // the next W
    for (int m = 0; m < warm_up; ++m) add(Op::kForward, m);
    for (int m = 0; m < N - warm_up; ++m) {
      add(Op::kBackwardInput, m);
      if (m >= M - ahead) add(Op::kBackwardWeight, weight++);
      add(Op::kForward, warm_up + m);
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
