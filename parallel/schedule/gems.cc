// GEMS (Jain et al. 2020): two copies of the model in opposite directions, and at most two micro-batches at work: the forward of one
// follows the backward of the one before through the same workers. Little memory, little parallelism.
//
//   gems, 4 workers, 3 micro-batches, 2 pipes (up in small letters)
//   makespan 30, bubble 70.0 %, peak activations 1, 2 copies of the weights
//   worker 0 | F0 .  .  .  .  .  .  .  .  .  B0--- f1 b1--- F2 .  .  .  .  .  .  .  .  .  .  .  .  B2---
//   worker 1 | .  F0 .  .  .  .  .  .  B0--- f1 .  .  .  .  b1--- F2 .  .  .  .  .  .  .  .  B2--- .  .
//   worker 2 | .  .  F0 .  .  .  B0--- f1 .  .  .  .  .  .  .  .  b1--- F2 .  .  .  .  B2--- .  .  .  .
//   worker 3 | .  .  .  F0 B0--- f1 .  .  .  .  .  .  .  .  .  .  .  .  b1--- F2 B2--- .  .  .  .  .  .
//
// Even micro-batches go down the workers, odd ones up: every worker runs F(i) B(i) in the order of i.
//
// Makespan N (D B + F) + (D - 1) F where B >= F; bubble (D - 1)/(D + 1/2) for large N at B = 2F. Peak activations 1; two copies of the weights.
#include "parallel/schedule/generators.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

StatusOr<Schedule> Gems(const GenerateOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckFixed("gems", options, {.pipes = 2}));
  const int D = options.workers;
  Schedule schedule = OnePipe("gems", options);
  schedule.shape.pipes = 2;
  schedule.worker_of.emplace_back(schedule.worker_of[0].rbegin(), schedule.worker_of[0].rend());
  schedule.pipe_of_micro_batch = PipeOfMicroBatch(2, 2, options.micro_batches);
  for (int worker = 0; worker < D; ++worker) {
    for (int m = 0; m < options.micro_batches; ++m) {
      const int pipe = m % 2;
      const int stage = pipe == 0 ? worker : D - 1 - worker;
      schedule.program[worker].push_back(Compute(Op::kForward, pipe, stage, m));
      schedule.program[worker].push_back(Compute(Op::kBackward, pipe, stage, m));
    }
  }
  return schedule;
}

}  // namespace lycia::schedule
