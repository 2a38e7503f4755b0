// DualPipeV (DeepSeek-AI 2025): DualPipe cut in half. One copy of the model in 2D half stages goes down the workers and back up; the way
// back takes the place of the other direction, so that every forward of one arm of the V is paired with a backward of the other.
//
//   dualpipev, 2 workers, 4 micro-batches, 1 pipe (2F3: stage 2; F0&B1: one block)
//   makespan 13, bubble 7.7 %, peak activations 2.5, 1 copy of the weights
//   worker 0 | 0F0 0F1 0F2 3F0 3I0 3W0 3F1 0F3&3B1---- .   3F2&0B0---- 3B2---- .   3F3&0B1---- 3B3---- 0I2 0W2 0I3 0W3
//   worker 1 | .   1F0 2F0 1F1 2F1 1F2 2B0---- 2F2&1B0---- 1F3&2B1---- 2F3&1B1---- 2B2---- 1B2---- .   2I3 1I3 2W3 1W3
//
// Worker r holds stages r and 2D - 1 - r and runs the eight steps of dualpipe_steps.h with the way down as lane 0.
//
// With F = I >= W of both halves together: makespan N (F + I + W) + (D - 1)(F&B + B - 3W)/2, which is 3N + D - 1 at F = I = W = 1. Peak
// activations D + 1/2 on every worker.
#include "parallel/schedule/dualpipe_steps.h"
#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> DualPipeV(const GenerateOptions& options) {
  const int D = options.workers;
  const int N = options.micro_batches;
  LYCIA_RETURN_IF_ERROR(CheckFixed("dualpipev", options, {.chunks = 2}));
  if (N < 2 * D) {
    return InvalidArgument("dualpipev keeps 2D half stages at work: N must be at least 2D = ", 2 * D, ", got ", N, "; use ", 2 * D,
                           ", or zb-v, which takes any number");
  }
  Schedule schedule = WavePipe("dualpipev", options);
  for (int worker = 0; worker < D; ++worker) {
    const Lane way_down{.stage = worker};
    const Lane way_back{.stage = 2 * D - 1 - worker};
    schedule.program[worker] = DualPipeSteps({.depth = D, .distance = worker, .micro_batches = N, .lanes = {way_down, way_back}});
  }
  return schedule;
}

}  // namespace lycia::schedule
