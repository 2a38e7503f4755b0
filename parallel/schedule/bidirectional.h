// The placement that Chimera's schedules share: f pipes down the workers and f pipes up.
#ifndef LYCIA_PARALLEL_SCHEDULE_BIDIRECTIONAL_H_
#define LYCIA_PARALLEL_SCHEDULE_BIDIRECTIONAL_H_

#include <string>

#include "parallel/schedule/generators.h"

namespace lycia::schedule {

// A schedule without instructions: down pipe i has stage s on worker (s + i D/f) mod D, up pipe f + i on (D - 1 - s + i D/f) mod D, and
// units of D micro-batches are shared by the pipes. options.pipes = 0 means 2. Fails, under that name, for an odd D, and where f does not
// divide D/2.
StatusOr<Schedule> Bidirectional(std::string name, const GenerateOptions& options);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_BIDIRECTIONAL_H_
