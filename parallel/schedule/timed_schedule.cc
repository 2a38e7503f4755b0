#include "parallel/schedule/timed_schedule.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "parallel/schedule/order_search.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

StatusOr<Costs> ParseCostFlags(const CostFlags& flags) {
  StatusOr<Costs> costs = ParseCosts(flags.cost);
  if (!costs.ok()) return Annotate(costs.status(), "--cost");
  struct Flag {
    const char* name;
    const std::string& text;
    Fraction& value;
  };
  for (const Flag& flag : {Flag{"--latency", flags.latency, costs->latency}, Flag{"--transmit", flags.transmit, costs->transmit},
                           Flag{"--sync", flags.sync, costs->sync}, Flag{"--update", flags.update, costs->update}}) {
    const StatusOr<Fraction> value = ParseFraction(flag.text);
    if (!value.ok()) return Annotate(value.status(), flag.name);
    flag.value = *value;
  }
  return costs;
}

StatusOr<GradientSyncMode> ParseGradientSync(const std::string& text) {
  if (text == "lazy") return GradientSyncMode::kLazy;
  if (text == "eager") return GradientSyncMode::kEager;
  if (text == "eager-opt") return GradientSyncMode::kEagerOpt;
  return InvalidArgument("--gradient-sync=", text, " is none of lazy, eager, eager-opt");
}

}  // namespace

StatusOr<TimingOptions> ParseTimingFlags(const CostFlags& costs, const std::string& gradient_sync, int max_activations) {
  TimingOptions options;
  LYCIA_ASSIGN_OR_RETURN(options.costs, ParseCostFlags(costs));
  if (!gradient_sync.empty()) {
    LYCIA_ASSIGN_OR_RETURN(options.gradient_sync, ParseGradientSync(gradient_sync));
  }
  options.complete = !gradient_sync.empty() || options.costs.sync.numerator > 0 || options.costs.update.numerator > 0;
  options.max_activations = max_activations;
  return options;
}

StatusOr<TimedSchedule> TimeSchedule(Schedule schedule, const TimingOptions& options) {
  LYCIA_RETURN_IF_ERROR(Verify(schedule, {.completed = false}));
  const ScheduleShape& shape = schedule.shape;
  const StatusOr<Costs> costs = CostsForStages(options.costs, shape.stages);
  if (!costs.ok()) {
    return InvalidArgument("--cost has ", options.costs.stages.size(), " lists of costs, and ", schedule.name, " has ", shape.stages,
                           " stages (", shape.chunks, " on each of ", shape.workers, " workers); give one list, or one for each stage");
  }
  const std::vector<double> peaks = PeakActivations(schedule);
  const auto most = std::max_element(peaks.begin(), peaks.end());
  if (options.max_activations > 0 && *most > options.max_activations) {
    return InvalidArgument(schedule.name, " keeps ", *most, " activations on worker ", most - peaks.begin(), ", --max-activations allows ",
                           options.max_activations, "; raise it, or take a schedule that keeps fewer (lycia schedule compare)");
  }
  TimedSchedule timed;
  LYCIA_ASSIGN_OR_RETURN(timed.ticks, ToTicks(*costs, TickDivisor(schedule)));
  timed.schedule =
      options.complete ? Complete(std::move(schedule), {.sync = options.gradient_sync, .costs = timed.ticks}) : std::move(schedule);
  LYCIA_ASSIGN_OR_RETURN(timed.timeline, Simulate(timed.schedule, {.costs = timed.ticks}));
  return timed;
}

}  // namespace lycia::schedule
