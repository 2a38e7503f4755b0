// DualPipe (DeepSeek-AI 2024, DeepSeek-V3): two copies of the model in opposite directions, as in Chimera, and in the steady state every
// forward of one direction is paired with a backward of the other, so that messages inside a stage (experts) hide behind compute.
//
//   dualpipe, 4 workers, 8 micro-batches, 2 pipes (up in small letters; F0&B1: one block)
//   makespan 26, bubble 7.7 %, peak activations 5, 2 copies of the weights
//   worker 0 | F0 F1 F2 f4 i4 w4 f5 F3&b5--- .  f6&B0--- b6--- .  f7&B1--- b7--- I2 W2 I3 W3
//   worker 1 | .  F0 f4 F1 f5 F2 b4--- f6&B0--- F3&b5--- f7&B1--- b6--- B2--- .  i7 I3 w7 W3
//   worker 2 | .  f4 F0 f5 F1 f6 B0--- F2&b4--- f7&B1--- F3&b5--- B2--- b6--- .  I3 i7 W3 w7
//   worker 3 | f4 f5 f6 F0 I0 W0 F1 f7&B1--- .  F2&b4--- B2--- .  F3&b5--- B3--- i6 w6 i7 w7
//
// The first half of the micro-batches goes down the workers, the second half up. A worker's order is the eight steps of
// dualpipe_steps.h; its lane 0 enters at the nearer end. A pair F&B takes F + B and releases both outputs at its end.
//
// With F = I >= W: makespan N (F + I + W) + (D/2 - 1)(F&B + B - 3W), which is 3N + D - 2 at F = I = W = 1. Peak activations D + 1 on every
// worker; two copies of the weights.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/bidirectional.h"
#include "parallel/schedule/dualpipe_steps.h"
#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> DualPipe(const GenerateOptions& options) {
  const int D = options.workers;
  const int N = options.micro_batches;
  LYCIA_RETURN_IF_ERROR(CheckFixed("dualpipe", options, {.pipes = 2}));
  LYCIA_ASSIGN_OR_RETURN(Schedule schedule, Bidirectional("dualpipe", options));
  if (N < 2 * D || N % 2 != 0) {
    const std::string remedy = N <= 2 * D ? absl::StrCat(2 * D) : absl::StrCat(N - 1, " or ", N + 1);
    return InvalidArgument("dualpipe keeps D micro-batches of each direction at work: N must be even and at least 2D = ", 2 * D, ", got ",
                           N, "; use ", remedy, ", or chimera, which takes any number");
  }
  schedule.pipe_of_micro_batch = PipeOfMicroBatch(N, 2, N);
  for (int worker = 0; worker < D; ++worker) {
    const Lane down{.pipe = 0, .stage = worker, .first_micro_batch = 0};
    const Lane up{.pipe = 1, .stage = D - 1 - worker, .first_micro_batch = N / 2};
    const bool near_top = worker < D / 2;
    schedule.program[worker] = DualPipeSteps({.depth = D / 2,
                                              .distance = std::min(worker, D - 1 - worker),
                                              .micro_batches = N / 2,
                                              .lanes = {near_top ? down : up, near_top ? up : down}});
  }
  return schedule;
}

}  // namespace lycia::schedule
