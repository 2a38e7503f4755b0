// lycia schedule, lycia schedule compare: flags and files in, text out; what they print is parallel/schedule's.
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "launch/commands/commands.h"
#include "launch/schedule_file.h"
#include "parallel/schedule/command.h"
#include "parallel/schedule/compare.h"
#include "parallel/schedule/generators.h"

namespace lycia {
namespace {

constexpr std::int64_t kMaxSize = 1'000'000;

StatusOr<int> Size(const Arguments& arguments, const char* flag) {
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t size, arguments.GetInteger(flag, 0, 1, kMaxSize));
  return static_cast<int>(size);
}

// The flags that both commands have.
template <typename Args>
Status ReadCommonFlags(const Arguments& arguments, Args& args) {
  LYCIA_ASSIGN_OR_RETURN(args.stages, Size(arguments, "stages"));
  LYCIA_ASSIGN_OR_RETURN(args.max_activations, Size(arguments, "max-activations"));
  args.cost = arguments.Get("cost", args.cost);
  args.latency = arguments.Get("latency", args.latency);
  args.transmit = arguments.Get("transmit", args.transmit);
  args.sync = arguments.Get("sync", args.sync);
  args.update = arguments.Get("update", args.update);
  args.gradient_sync = arguments.Get("gradient-sync", args.gradient_sync);
  args.format = arguments.Get("format", args.format);
  args.from = arguments.Get("from");
  if (!args.from.empty()) {
    LYCIA_ASSIGN_OR_RETURN(args.csv, ReadScheduleText(args.from));
  }
  return OkStatus();
}

Status Print(const StatusOr<std::string>& text) {
  if (!text.ok()) return text.status();
  std::fwrite(text->data(), 1, text->size(), stdout);
  return OkStatus();
}

Status PrintSchedule(const Arguments& arguments) {
  schedule::ScheduleCommandArgs args;
  LYCIA_RETURN_IF_ERROR(ReadCommonFlags(arguments, args));
  LYCIA_ASSIGN_OR_RETURN(args.micro_batches, Size(arguments, "micro-batches"));
  LYCIA_ASSIGN_OR_RETURN(args.pipes, Size(arguments, "pipes"));
  LYCIA_ASSIGN_OR_RETURN(args.chunks, Size(arguments, "chunks"));
  args.name = arguments.Get("name");
  return Print(schedule::ScheduleCommand(args));
}

Status PrintComparison(const Arguments& arguments) {
  schedule::CompareArgs args;
  LYCIA_RETURN_IF_ERROR(ReadCommonFlags(arguments, args));
  args.micro_batches = arguments.Get("micro-batches");
  args.schedules = arguments.Get("schedules");
  return Print(schedule::CompareCommand(args));
}

std::vector<FlagSpec> WithCommonFlags(std::vector<FlagSpec> flags) {
  const std::vector<FlagSpec> common = {
      {.name = "cost", .value = "COSTS", .doc = "F=,B=,I=,W= in any unit, exact fractions too; one list a stage, with ; (default F=1,B=2)"},
      {.name = "latency", .value = "C", .doc = "of a message between workers, in the costs' unit (default 0)"},
      {.name = "transmit", .value = "C", .doc = "time of a message on its sender's one link (default 0)"},
      {.name = "sync", .value = "C", .doc = "time to sum the gradients of one stage over its holders (default 0)"},
      {.name = "update", .value = "C", .doc = "time of a worker's optimizer step (default 0)"},
      {.name = "gradient-sync", .value = "MODE", .doc = "lazy, eager or eager-opt (default lazy)"},
      {.name = "max-activations", .value = "A", .doc = "most activations that a worker may keep, in stages of D"},
  };
  flags.insert(flags.end(), common.begin(), common.end());
  return flags;
}

std::string ScheduleNames() {
  std::string text = "Schedules:\n";
  std::size_t width = 0;
  for (const schedule::Generator& g : schedule::Generators()) width = std::max(width, std::string(g.name).size());
  for (const schedule::Generator& g : schedule::Generators()) {
    const std::string name(g.name);
    text +=
        StrCat("  ", name, std::string(width + 2 - name.size(), ' '), g.summary, "\n", std::string(width + 4, ' '), g.constraints, "\n");
  }
  return text;
}

}  // namespace

Command ScheduleCommand() {
  std::vector<FlagSpec> flags = WithCommonFlags({
      {.name = "name", .value = "NAME", .doc = "one of the schedules below"},
      {.name = "stages", .value = "D", .doc = "workers of one copy of the model: its stages, or a V's or a loop's chunks"},
      {.name = "micro-batches", .value = "N", .doc = "micro-batches of a step, over all pipes"},
      {.name = "pipes", .value = "P", .doc = "copies of the model (Chimera: 2f, default 2)"},
      {.name = "chunks", .value = "V", .doc = "stages of a pipe on each worker (interleaved)"},
      {.name = "from", .value = "FILE", .doc = "a schedule written as CSV, instead of a name and sizes (docs/schedules.md)"},
  });
  flags.push_back({.name = "format", .value = "FORMAT", .doc = "text, csv, svg, json or trace (Chrome, Perfetto; default text)"});
  return {.spec = {.name = "schedule",
                   .summary = "prints, draws and times a pipeline schedule",
                   .flags = std::move(flags),
                   .details = StrCat("`lycia schedule compare --help`: several of them side by side.\n\n", ScheduleNames())},
          .run = PrintSchedule};
}

Command ScheduleCompareCommand() {
  std::vector<FlagSpec> flags = WithCommonFlags({
      {.name = "stages", .value = "D", .doc = "workers of one copy of the model", .required = true},
      {.name = "micro-batches", .value = "N,N", .doc = "micro-batches of a step: one table for each number", .required = true},
      {.name = "schedules", .value = "NAME,NAME", .doc = "which of the schedules below (default: all)"},
      {.name = "from", .value = "FILE", .doc = "one more schedule, written as CSV"},
  });
  flags.push_back({.name = "format", .value = "FORMAT", .doc = "table, json or svg (one time axis; default table)"});
  return {.spec = {.name = "schedule compare",
                   .summary = "times several schedules side by side",
                   .flags = std::move(flags),
                   .details = ScheduleNames()},
          .run = PrintComparison};
}

}  // namespace lycia
