// What a run asks of a schedule beyond its being right, in the words of the configuration.
#ifndef LYCIA_LAUNCH_USER_SCHEDULE_H_
#define LYCIA_LAUNCH_USER_SCHEDULE_H_

#include <cstdint>
#include <string>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia {

// The text of a schedule file (schedule_file.h) whose path is `path`: right, and of the run's sizes.
StatusOr<schedule::Schedule> ScheduleFromCsv(const std::string& csv, const std::string& path, int workers, int micro_batches);

// The first line of a message of several, whose others are a picture or a table, after `name`.
Status FirstLine(const Status& status, const std::string& name);

// No worker keeps more than parallel.max_activations (0 = no limit) stages' activations.
Status CheckActivations(const schedule::Schedule& schedule, int max_activations);

// A part of a micro-batch must be a whole number of its samples.
Status CheckParts(const schedule::Schedule& schedule, std::int64_t samples_per_micro_batch);

// A tensor grid of several ranks runs whole micro-batches only: tokens of a part of the samples do not lie together on one (z, y).
Status CheckGridParts(const schedule::Schedule& schedule, std::int64_t grid_ranks);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_USER_SCHEDULE_H_
