#include "parallel/schedule/command.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/chrome_trace.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/plan.h"
#include "parallel/schedule/render.h"
#include "parallel/schedule/timed_schedule.h"
#include "parallel/schedule/verify.h"
#include "runtime/core/check.h"

namespace lycia::schedule {
namespace {

// The schedule of --name; with the candidates where that is auto.
StatusOr<Plan> Generated(const ScheduleCommandArgs& args, const Costs& costs) {
  if (args.name.empty()) return InvalidArgument("--name=NAME is required, or --from=FILE; see `lycia schedule --help` for the names");
  if (args.stages < 1) return InvalidArgument("--stages=D is required with --name: a number of at least 1");
  if (args.micro_batches < 1) return InvalidArgument("--micro-batches=N is required with --name: a number of at least 1");
  if (args.pipes < 0) return InvalidArgument("--pipes=", args.pipes, ": a schedule has at least one pipe");
  if (args.chunks < 0) return InvalidArgument("--chunks=", args.chunks, ": a worker has at least one stage of a pipe");
  const GenerateOptions options{.workers = args.stages,
                                .micro_batches = args.micro_batches,
                                .pipes = args.pipes,
                                .chunks = args.chunks,
                                .costs = costs,
                                .max_activations = args.max_activations};
  Plan plan;
  if (args.name == "auto") {
    LYCIA_ASSIGN_OR_RETURN(plan, PlanSchedule(options));
  } else {
    LYCIA_ASSIGN_OR_RETURN(plan.schedule, Generate(args.name, options));
  }
  LYCIA_CHECK_OK(Verify(plan.schedule, {.completed = false}));
  return plan;
}

// The schedule of --from, named after its file.
StatusOr<Plan> Written(const ScheduleCommandArgs& args) {
  Plan plan;
  LYCIA_ASSIGN_OR_RETURN(plan.schedule, ParseCsv(args.csv, std::filesystem::path(args.from).stem().string()));
  return plan;
}

// What --from leaves nothing to say about.
Status CheckFrom(const ScheduleCommandArgs& args) {
  if (args.from.empty()) return OkStatus();
  if (!args.name.empty() || args.stages != 0 || args.micro_batches != 0 || args.pipes != 0 || args.chunks != 0) {
    return InvalidArgument("--from=", args.from, " says it all; leave out --name, --stages, --micro-batches, --pipes and --chunks");
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::string> ScheduleCommand(const ScheduleCommandArgs& args) {
  const bool csv = args.format == "csv", svg = args.format == "svg", json = args.format == "json", trace = args.format == "trace";
  if (!csv && !svg && !json && !trace && args.format != "text") {
    return InvalidArgument("--format=", args.format, " is none of text, csv, svg, json, trace");
  }
  LYCIA_RETURN_IF_ERROR(CheckFrom(args));
  LYCIA_ASSIGN_OR_RETURN(const TimingOptions options, ParseTimingFlags({args.cost, args.latency, args.transmit, args.sync, args.update},
                                                                       args.gradient_sync, args.max_activations));
  const StatusOr<Plan> plan = args.from.empty() ? Generated(args, options.costs) : Written(args);
  if (!plan.ok()) return args.from.empty() ? plan.status() : Annotate(plan.status(), args.from);
  const StatusOr<TimedSchedule> timed = TimeSchedule(plan->schedule, options);
  if (!timed.ok()) return args.from.empty() ? timed.status() : Annotate(timed.status(), args.from);
  if (csv) return RenderCsv(timed->schedule);
  if (svg) return RenderSvg(timed->schedule, timed->timeline);
  if (trace) return RenderChromeTrace(timed->schedule, timed->timeline, timed->ticks);
  const std::string drawn =
      json ? RenderJson(timed->schedule, timed->timeline, options.costs) : RenderText(timed->schedule, timed->timeline);
  if (plan->candidates.empty()) return drawn;
  return json ? absl::StrCat("{\"plan\": ", PlanJson(*plan), ", \"schedule\": ", drawn, "}\n")
              : absl::StrCat(PlanTable(*plan), "\n", drawn);
}

}  // namespace lycia::schedule
