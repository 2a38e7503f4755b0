// The eight steps of DualPipe (DeepSeek-AI 2024, `DualPipe.step`) as one worker runs them; DualPipeV takes the same.
#ifndef LYCIA_PARALLEL_SCHEDULE_DUALPIPE_STEPS_H_
#define LYCIA_PARALLEL_SCHEDULE_DUALPIPE_STEPS_H_

#include <array>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

// One of the two ways that micro-batches take through a worker: a direction of DualPipe, or one arm of DualPipeV's V.
struct Lane {
  int pipe = 0;
  int stage = 0;
  int first_micro_batch = 0;  // then those behind it, in order
};

struct DualPipeStepsArgs {
  int depth = 1;              // workers until a micro-batch of lane 0 meets those of lane 1: D/2 for DualPipe, D for DualPipeV
  int distance = 0;           // of this worker from where lane 0 begins: 0 .. depth - 1
  int micro_batches = 2;      // of each lane, at least 2 depth
  std::array<Lane, 2> lanes;  // 0 is the one whose micro-batches come first
};

std::vector<Instruction> DualPipeSteps(const DualPipeStepsArgs& args);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_DUALPIPE_STEPS_H_
