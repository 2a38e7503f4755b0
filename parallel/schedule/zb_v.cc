// ZB-V (Qi et al. 2024, controllable memory; in the fixed order of PyTorch's ScheduleZBVZeroBubble): one copy of the model in 2D half
// stages goes down the workers and back up, so that the last half stage is where the first is and gradients are back at once; weight
// gradients fill what would be idle.
//
//   zb-v, 2 workers, 4 micro-batches, 1 pipe (2F3: stage 2)
//   makespan 12.5, bubble 4.0 %, peak activations 2, 1 copy of the weights
//   worker 0 | 0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0F3 0I0 0W0 3F2 3I2 3W2 0I1 0W1 3F3 3I3 3W3 0I2 0W2 0I3 0W3 .
//   worker 1 | .   1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1F3 1I1 1W1 2F3 2I2 2W2 1I2 2I3 1I3 1W2 2W3 1W3
//
// Worker r holds half stage r ("0" below) and half stage 2D - 1 - r ("1"). With max(N, 2D - 1) micro-batches, of which those that do not
// exist are left out:
//   1. 2 (D - r) - 1 times F0          2. r times F1 F0              3. D - r times F1 I1 W1
//   4. while forwards remain F0 I0 W0 F1 I1 W1 (no F0 once all are done)
//   5. r times I0 I1                   6. D - r times I0 W0          7. what is left of W1, then of W0
//
// At F = I = W of both halves together, N >= 2D - 1: makespan N (F + I + W) + (D - 1) F/2, and from N = 2D on no worker waits between
// its first and its last instruction; at N = D: N (F + I + W) + (D - 1) F. Peak activations D on every worker from N = 2D on.
#include <algorithm>

#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> ZbV(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("zb-v", options, {.chunks = 2}));
  const int D = options.workers;
  const int N = options.micro_batches;
  const int planned = std::max(N, 2 * D - 1);
  Schedule schedule = WavePipe("zb-v", options);
  for (int worker = 0; worker < D; ++worker) {
    int forwards[2] = {}, inputs[2] = {}, weights[2] = {};  // [half] the next micro-batch of each kind
    const auto add = [&](Op op, int half, int m) {
      const int stage = half == 0 ? worker : 2 * D - 1 - worker;
      if (m < N) schedule.program[worker].push_back(Compute(op, 0, stage, m));
    };
    const auto F = [&](int half) { add(Op::kForward, half, forwards[half]++); };
    const auto I = [&](int half) { add(Op::kBackwardInput, half, inputs[half]++); };
    const auto W = [&](int half) { add(Op::kBackwardWeight, half, weights[half]++); };

    for (int i = 0; i < 2 * (D - worker) - 1; ++i) F(0);          // 1
    for (int i = 0; i < worker; ++i) F(1), F(0);                  // 2
    for (int i = 0; i < D - worker; ++i) F(1), I(1), W(1);        // 3
    while (forwards[0] < planned || forwards[1] < forwards[0]) {  // 4
      if (forwards[0] < planned) F(0);
      I(0), W(0), F(1), I(1), W(1);
    }
    for (int i = 0; i < worker; ++i) I(0), I(1);      // 5
    for (int i = 0; i < D - worker; ++i) I(0), W(0);  // 6
    while (weights[1] < planned) W(1);                // 7
    while (weights[0] < planned) W(0);
  }
  return schedule;
}

}  // namespace lycia::schedule
