// Which schedule to run: all of them tried at the costs at hand, and the fastest that fits.
//
// Candidates are every schedule of the table (generators.h), those that are planned by cost with the best of their orders, and a few
// placements re-planned that have a fixed order in the table. None is best everywhere: two copies of the model win where messages are
// dear, a V of half stages where they are cheap or gradients take long to add up, one pipe where memory is short.
#ifndef LYCIA_PARALLEL_SCHEDULE_PLAN_H_
#define LYCIA_PARALLEL_SCHEDULE_PLAN_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/schedule/generators.h"
#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

struct PlanCandidate {
  std::string name;
  std::string how;      // its order: "fixed", "unit costs", "re-planned: own quotas, key cost, x = 1/2"
  int tried = 1;        // orders
  std::string refused;  // why it cannot run here; empty = it can, and the rest is filled in
  double makespan = 0;  // in the costs' unit; with gradient synchronisation and update where they cost something
  double bubble = 0;
  double least_activations = 0, most_activations = 0;  // over the workers, in stages of D
  double copies = 0;                                   // of the weights
};

struct Plan {
  Schedule schedule;                      // the winner's
  std::vector<PlanCandidate> candidates;  // the fastest first, then those refused
  std::string why;                        // the first one won, in a sentence
};

// What a caller knows better than the options.
struct PlanRules {
  // Costs of a model cut and placed for such a schedule; null: options.costs for all. A candidate whose costs fail is refused.
  std::function<StatusOr<Costs>(const ScheduleShape& shape)> costs;
  // Why this schedule cannot run, beyond its being right; null: any can.
  std::function<Status(const Schedule& schedule)> accepts;
};

// options.costs are planned for: per stage or the same for all, latency, transmit, sync, update. options.max_activations (0 = no limit)
// is kept; where two take as long, the one with fewer copies of the weights wins, then with fewer activations. options.pipes and chunks,
// where given, leave only the schedules that have as many. InvalidArgument where nothing can run: a line with the first reason, and the
// table of all.
StatusOr<Plan> PlanSchedule(const GenerateOptions& options, const PlanRules& rules = {});

// Candidates as a table, a line each, and why the first won.
std::string PlanTable(const Plan& plan);

// {"why": .., "candidates": [{"name", "order", "makespan", "bubble_ratio", "peak_activations": [least, most], "weights_copies"}, ..,
// {"name", "refused"}]}
std::string PlanJson(const Plan& plan);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_PLAN_H_
