// Where stages are: what a generator starts from. Each function returns a schedule with its shape, placement and micro-batches filled in
// and empty programs; D = options.workers. Chimera's placement is in bidirectional.h.
#ifndef LYCIA_PARALLEL_SCHEDULE_PLACEMENT_H_
#define LYCIA_PARALLEL_SCHEDULE_PLACEMENT_H_

#include <string>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

struct GenerateOptions;  // generators.h

// One pipe, stage s on worker s.
Schedule OnePipe(std::string name, const GenerateOptions& options);

// One pipe of D * chunks stages that goes round the workers `chunks` times: stage s on worker s mod D.
Schedule LoopedPipe(std::string name, const GenerateOptions& options, int chunks);

// One pipe of 2D stages that goes down the workers and back up: stages s and 2D - 1 - s on worker s. Both ends of the model are on
// worker 0.
Schedule WavePipe(std::string name, const GenerateOptions& options);

// Which pipe takes each micro-batch. A unit is `unit` consecutive micro-batches, `unit` a multiple of `pipes`; pipe i takes the i-th
// contiguous block of each. What is left after the last whole unit is split as evenly as possible, lower pipes first.
//   unit 4, 2 pipes, N = 7:  0 0 1 1  0 0 1
std::vector<int> PipeOfMicroBatch(int unit, int pipes, int micro_batches);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_PLACEMENT_H_
