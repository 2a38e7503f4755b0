#include "parallel/schedule/command.h"

#include "parallel/schedule/costs.h"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/render.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"
#include "runtime/core/check.h"

namespace lycia::schedule {

StatusOr<std::string> ScheduleCommand(const ScheduleCommandArgs& args) {
  const bool text = args.format == "text", csv = args.format == "csv", svg = args.format == "svg", json = args.format == "json";
  if (!text && !csv && !svg && !json) return InvalidArgument("--format=", args.format, " is none of text, csv, svg, json");
  StatusOr<Costs> costs = ParseCosts(args.cost);
  if (!costs.ok()) return Annotate(costs.status(), "--cost");
  StatusOr<Fraction> latency = ParseFraction(args.latency);
  if (!latency.ok()) return Annotate(latency.status(), "--latency");
  costs->latency = *latency;
  if (!costs->stages.empty() && static_cast<int>(costs->stages.size()) != args.stages) {
    return InvalidArgument("--cost has ", costs->stages.size(), " lists of costs for --stages=", args.stages,
                           "; give one, or one for each stage");
  }
  if (args.pipes < 0) return InvalidArgument("--pipes=", args.pipes, ": a schedule has at least one pipe");

  LYCIA_ASSIGN_OR_RETURN(
      const Schedule schedule,
      Generate(args.name, {.workers = args.stages, .micro_batches = args.micro_batches, .pipes = args.pipes, .costs = *costs}));
  LYCIA_CHECK_OK(Verify(schedule, {.completed = false}));
  if (csv) return RenderCsv(schedule);
  LYCIA_ASSIGN_OR_RETURN(const TickCosts ticks, ToTicks(*costs, TickDivisor(schedule)));
  LYCIA_ASSIGN_OR_RETURN(const Timeline timeline, Simulate(schedule, {.costs = ticks}));
  if (svg) return RenderSvg(schedule, timeline);
  return json ? RenderJson(schedule, timeline, *costs) : RenderText(schedule, timeline);
}

}  // namespace lycia::schedule
