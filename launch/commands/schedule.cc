// lycia schedule --name=chimera --stages=4 --micro-batches=4 [--pipes=2] [--cost=F=1,B=2] [--latency=0] [--format=text|csv|svg|json]
#include <cstdio>
#include <string>

#include "launch/commands/commands.h"
#include "parallel/schedule/command.h"
#include "parallel/schedule/generators.h"

namespace lycia {
namespace {

constexpr std::int64_t kMaxSize = 1'000'000;

Status PrintSchedule(const Arguments& arguments) {
  schedule::ScheduleCommandArgs args;
  args.name = arguments.Get("name");
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t stages, arguments.GetInteger("stages", 0, 1, kMaxSize));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t micro_batches, arguments.GetInteger("micro-batches", 0, 1, kMaxSize));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t pipes, arguments.GetInteger("pipes", 0, 1, kMaxSize));
  args.stages = static_cast<int>(stages);
  args.micro_batches = static_cast<int>(micro_batches);
  args.pipes = static_cast<int>(pipes);
  args.cost = arguments.Get("cost", args.cost);
  args.latency = arguments.Get("latency", args.latency);
  args.format = arguments.Get("format", args.format);
  LYCIA_ASSIGN_OR_RETURN(const std::string text, schedule::ScheduleCommand(args));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return OkStatus();
}

std::string ScheduleNames() {
  std::string text = "Schedules:\n";
  for (const schedule::Generator& g : schedule::Generators()) text += StrCat("  ", g.name, "  ", g.summary, " (", g.constraints, ")\n");
  return text;
}

}  // namespace

Command ScheduleCommand() {
  return {.spec = {.name = "schedule",
                   .summary = "prints, draws and times a pipeline schedule",
                   .flags = {{.name = "name", .value = "NAME", .doc = "one of the schedules below", .required = true},
                             {.name = "stages", .value = "D", .doc = "stages of one copy of the model", .required = true},
                             {.name = "micro-batches", .value = "N", .doc = "micro-batches of a step, over all pipes", .required = true},
                             {.name = "pipes", .value = "P", .doc = "copies of the model (Chimera: 2f, default 2)"},
                             {.name = "cost", .value = "COSTS", .doc = "F=,B=,I=,W= in any unit, exact fractions too (default F=1,B=2)"},
                             {.name = "latency", .value = "C", .doc = "of a message between workers, in the costs' unit (default 0)"},
                             {.name = "format", .value = "FORMAT", .doc = "text, csv, svg or json (default text)"}},
                   .details = ScheduleNames()},
          .run = PrintSchedule};
}

}  // namespace lycia
