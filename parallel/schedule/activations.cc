#include "parallel/schedule/activations.h"

namespace lycia::schedule {

std::size_t NumActivations(const ScheduleShape& shape) { return static_cast<std::size_t>(shape.stages) * shape.micro_batches; }

std::size_t ActivationIndex(const ScheduleShape& shape, const Instruction& compute) {
  return static_cast<std::size_t>(compute.stage) * shape.micro_batches + compute.micro_batch;
}

std::vector<Lifetime> Lifetimes(const Schedule& schedule, bool (*counts)(Op)) {
  std::vector<Lifetime> lifetimes(NumActivations(schedule.shape));
  for (const auto& program : schedule.program) {
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (!counts(program[i].op)) continue;
      Lifetime& lifetime = lifetimes[ActivationIndex(schedule.shape, program[i])];
      if (lifetime.first < 0) lifetime.first = static_cast<int>(i);
      lifetime.last = static_cast<int>(i);
    }
  }
  return lifetimes;
}

std::size_t BlockBegin(const std::vector<Instruction>& program, std::size_t i) {
  while (i > 0 && program[i - 1].paired_with_next) --i;
  return i;
}

std::size_t BlockEnd(const std::vector<Instruction>& program, std::size_t i) {
  while (program[i].paired_with_next && i + 1 < program.size()) ++i;
  return i + 1;
}

}  // namespace lycia::schedule
