// What a worker keeps of a micro-batch on a stage: from the first part of its forward to its last use by a backward.
//
// A paired block counts as one: what its forwards keep is taken before anything that its backwards used is given back.
#ifndef LYCIA_PARALLEL_SCHEDULE_ACTIVATIONS_H_
#define LYCIA_PARALLEL_SCHEDULE_ACTIVATIONS_H_

#include <cstddef>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

// Dense numbers of (stage, micro-batch); the micro-batch fixes the pipe, and with the stage the worker.
std::size_t NumActivations(const ScheduleShape& shape);
std::size_t ActivationIndex(const ScheduleShape& shape, const Instruction& compute);

// The first and the last compute instruction of each activation, of those that `counts`, as indices of its worker's program; -1 where
// there is none.
struct Lifetime {
  int first = -1;
  int last = -1;
};
std::vector<Lifetime> Lifetimes(const Schedule& schedule, bool (*counts)(Op) = IsCompute);  // [ActivationIndex]

// The paired block of an instruction: index of its first, and one behind its last. Alone, it is a block of one.
std::size_t BlockBegin(const std::vector<Instruction>& program, std::size_t i);
std::size_t BlockEnd(const std::vector<Instruction>& program, std::size_t i);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_ACTIVATIONS_H_
