// The schedule that a run trains with, and the cut of the model into its stages. They depend on each other: the schedule says how many
// stages there are, the stages what the schedule's instructions cost.
#ifndef LYCIA_LAUNCH_TRAINING_SCHEDULE_H_
#define LYCIA_LAUNCH_TRAINING_SCHEDULE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launch/trainer.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"

namespace lycia {

struct TrainingSchedule {
  schedule::Schedule compute;  // compute instructions only
  std::vector<int> cuts;       // layers [cuts[s], cuts[s + 1]) are stage s
  schedule::Costs costs;       // as measured, in ms; or by FLOPs, 1 being a worker's share of the model's forward for one micro-batch
  std::string why;             // where the schedule was chosen: all candidates as a table, and why the first won; else empty
};

// What options.schedule (or options.schedule_csv) says for layers with these plans; num_parameters are the model's, message_bytes those of
// one micro-batch at a boundary. InvalidArgument, in the words of the configuration, for sizes that do not fit.
struct TrainingScheduleArgs {
  const TrainerOptions& options;
  std::span<const LayerPlan> layers;
  std::int64_t num_parameters = 0;
  std::int64_t message_bytes = 0;
};
StatusOr<TrainingSchedule> PlanTrainingSchedule(const TrainingScheduleArgs& args);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_TRAINING_SCHEDULE_H_
