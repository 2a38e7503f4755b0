#include "parallel/schedule/placement.h"

#include <algorithm>
#include <utility>

#include "parallel/schedule/generators.h"

namespace lycia::schedule {
namespace {

Schedule Empty(std::string name, const ScheduleShape& shape) {
  Schedule schedule;
  schedule.name = std::move(name);
  schedule.shape = shape;
  schedule.worker_of.assign(shape.pipes, std::vector<int>(shape.stages));
  schedule.pipe_of_micro_batch.assign(shape.micro_batches, 0);
  schedule.program.resize(shape.workers);
  return schedule;
}

}  // namespace

Schedule OnePipe(std::string name, const GenerateOptions& options) { return LoopedPipe(std::move(name), options, 1); }

Schedule LoopedPipe(std::string name, const GenerateOptions& options, int chunks) {
  const int D = options.workers;
  Schedule schedule =
      Empty(std::move(name), {.workers = D, .stages = D * chunks, .chunks = chunks, .micro_batches = options.micro_batches});
  for (int stage = 0; stage < D * chunks; ++stage) schedule.worker_of[0][stage] = stage % D;
  return schedule;
}

Schedule WavePipe(std::string name, const GenerateOptions& options) {
  const int D = options.workers;
  Schedule schedule = Empty(std::move(name), {.workers = D, .stages = 2 * D, .chunks = 2, .micro_batches = options.micro_batches});
  for (int stage = 0; stage < 2 * D; ++stage) schedule.worker_of[0][stage] = std::min(stage, 2 * D - 1 - stage);
  return schedule;
}

std::vector<int> PipeOfMicroBatch(int unit, int pipes, int micro_batches) {
  std::vector<int> pipe_of;
  for (int first = 0; first < micro_batches; first += unit) {
    const int count = std::min(unit, micro_batches - first);
    for (int pipe = 0; pipe < pipes; ++pipe) pipe_of.insert(pipe_of.end(), count / pipes + (pipe < count % pipes), pipe);
  }
  return pipe_of;
}

}  // namespace lycia::schedule
