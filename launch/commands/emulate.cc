// lycia emulate --name=chimera --stages=8 --micro-batches=16 [--clock=wall] [--unit=10ms] ...: a schedule on emulated devices.
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launch/commands/commands.h"
#include "launch/launcher.h"
#include "launch/schedule_file.h"
#include "launch/session.h"
#include "launch/share_schedule.h"
#include "parallel/pipeline/emulated_pipeline.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"
#include "runtime/io/json.h"

namespace lycia {
namespace {

constexpr std::int64_t kMaxWorkers = 4096;
constexpr std::int64_t kMaxMicroBatches = 1'000'000;
constexpr std::int64_t kMaxMessageBytes = std::int64_t{1} << 30;
constexpr std::int64_t kMaxThreadRanks = 256;
constexpr std::int64_t kMaxRepeats = 1000;

// What is emulated.
struct Emulation {
  schedule::Schedule schedule;   // complete and proven
  schedule::Costs unit_costs;    // as given
  schedule::TickCosts costs;     // the same in ns
  schedule::Timeline simulated;  // of rank 0
  ClockKind clock = ClockKind::kLogical;
  std::string cost_text, unit_text;
  std::int64_t message_bytes = 0;
  int repeats = 1;
  bool json = false;
};

struct Measurement {
  std::vector<std::int64_t> makespans;  // ascending, ns
  double host_seconds = 0;              // processor time of one step, of all ranks together
  std::int64_t median() const { return makespans[makespans.size() / 2]; }
};

// "10ms", "250us", "1s", "500ns".
StatusOr<std::int64_t> ParseUnit(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string suffix(end, text.data() + text.size());
  const std::int64_t scale = suffix == "s" ? 1'000'000'000 : suffix == "ms" ? 1'000'000 : suffix == "us" ? 1000 : suffix == "ns" ? 1 : 0;
  if (error != std::errc() || scale == 0 || value < 1 || value > 100'000'000'000 / scale) {
    return InvalidArgument("--unit=", text, " is not a time; write for example 10ms, 250us or 1s, at most 100s");
  }
  return value * scale;
}

StatusOr<schedule::Schedule> ReadSchedule(const Arguments& arguments, const schedule::Costs& costs) {
  if (arguments.Has("from")) {
    for (const char* flag : {"name", "stages", "micro-batches", "pipes", "chunks"}) {
      if (arguments.Has(flag)) return InvalidArgument("--", flag, " and --from exclude each other: the file says it all");
    }
    return ReadScheduleFile(arguments.Get("from"));
  }
  for (const char* flag : {"name", "stages", "micro-batches"}) {
    if (!arguments.Has(flag)) return InvalidArgument("--", flag, " is required, or --from=FILE");
  }
  schedule::GenerateOptions options;
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t workers, arguments.GetInteger("stages", 0, 1, kMaxWorkers));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t micro_batches, arguments.GetInteger("micro-batches", 0, 1, kMaxMicroBatches));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t pipes, arguments.GetInteger("pipes", 0, 1, kMaxWorkers));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t chunks, arguments.GetInteger("chunks", 0, 1, kMaxWorkers));
  options.workers = static_cast<int>(workers);
  options.micro_batches = static_cast<int>(micro_batches);
  options.pipes = static_cast<int>(pipes);
  options.chunks = static_cast<int>(chunks);
  options.costs = costs;
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t max_activations, arguments.GetInteger("max-activations", 0, 1, kMaxMicroBatches));
  options.max_activations = static_cast<int>(max_activations);
  return schedule::Generate(arguments.Get("name"), options);
}

StatusOr<Emulation> ReadFlags(const Arguments& arguments) {
  Emulation made;
  made.cost_text = arguments.Get("cost", "F=1,B=2");
  made.unit_text = arguments.Get("unit", "10ms");
  LYCIA_ASSIGN_OR_RETURN(schedule::Costs costs, schedule::ParseCosts(made.cost_text));
  for (const auto& [flag, cost] : {std::pair{"latency", &costs.latency}, std::pair{"transmit", &costs.transmit},
                                   std::pair{"sync", &costs.sync}, std::pair{"update", &costs.update}}) {
    StatusOr<schedule::Fraction> given = schedule::ParseFraction(arguments.Get(flag, "0"));
    if (!given.ok()) return Annotate(given.status(), StrCat("--", flag));
    *cost = *given;
  }
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t unit_ns, ParseUnit(made.unit_text));
  LYCIA_ASSIGN_OR_RETURN(made.costs, schedule::InNanoseconds(costs, unit_ns));
  made.unit_costs = costs;
  const std::string clock = arguments.Get("clock", "logical"), format = arguments.Get("format", "text");
  if (clock != "logical" && clock != "wall") return InvalidArgument("--clock=", clock, " is none of logical, wall");
  if (format != "text" && format != "json") return InvalidArgument("--format=", format, " is none of text, json");
  made.clock = clock == "wall" ? ClockKind::kWall : ClockKind::kLogical;
  made.json = format == "json";
  LYCIA_ASSIGN_OR_RETURN(made.message_bytes, arguments.GetInteger("message-bytes", 65536, 1, kMaxMessageBytes));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t repeats, arguments.GetInteger("repeat", 5, 1, kMaxRepeats));
  made.repeats = static_cast<int>(repeats);
  return made;
}

// The schedule, proven, and what the simulator says of it; this may search for an order.
Status PlanSchedule(const Arguments& arguments, Emulation& made) {
  LYCIA_ASSIGN_OR_RETURN(const schedule::Schedule compute, ReadSchedule(arguments, made.unit_costs));
  if (!made.unit_costs.stages.empty() && static_cast<int>(made.unit_costs.stages.size()) != compute.shape.stages) {
    return InvalidArgument("--cost gives ", made.unit_costs.stages.size(), " stages, the schedule has ", compute.shape.stages);
  }
  schedule::CompleteOptions complete{.costs = made.costs};
  const std::string sync = arguments.Get("gradient-sync", "lazy");
  if (sync != "lazy" && sync != "eager" && sync != "eager-opt") {
    return InvalidArgument("--gradient-sync=", sync, " is none of lazy, eager, eager-opt");
  }
  if (sync != "lazy") complete.sync = sync == "eager" ? schedule::GradientSyncMode::kEager : schedule::GradientSyncMode::kEagerOpt;
  made.schedule = schedule::Complete(compute, complete);
  LYCIA_RETURN_IF_ERROR(schedule::Verify(made.schedule, {.credits = EmulatedPipeline::Args().credits}));
  LYCIA_ASSIGN_OR_RETURN(made.simulated, schedule::Simulate(made.schedule, {.costs = made.costs}));
  return OkStatus();
}

double ProcessorSeconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// One step to warm up, then the measured ones.
StatusOr<Measurement> Measure(const Emulation& emulation, Session& session) {
  SessionObserver observer(session, 0);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<EmulatedPipeline> pipeline, EmulatedPipeline::Open({.schedule = &emulation.schedule,
                                                                                                   .costs = emulation.costs,
                                                                                                   .clock = emulation.clock,
                                                                                                   .message_bytes = emulation.message_bytes,
                                                                                                   .observer = &observer,
                                                                                                   .guard = session.watchdog},
                                                                                                  *session.world));
  Measurement measured;
  double before = 0;
  for (int step = 0; step <= emulation.repeats; ++step) {
    if (step == 1) before = ProcessorSeconds();
    observer.StartStep(step);
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t makespan, pipeline->Step());
    if (step > 0) measured.makespans.push_back(makespan);
  }
  double used = ProcessorSeconds() - before;
  if (!session.threads) {
    const Tensor sum{&used, DType::kF64, {1}};
    LYCIA_RETURN_IF_ERROR(session.world->AllReduce({.in = sum, .out = sum, .tag = Tag::kMetrics}, {}).Wait(session.watchdog));
  }
  measured.host_seconds = used / emulation.repeats;
  std::sort(measured.makespans.begin(), measured.makespans.end());
  return measured;
}

void Print(const Emulation& emulation, const Measurement& measured, const Session& session) {
  const schedule::ScheduleShape& shape = emulation.schedule.shape;
  const auto ms = [](std::int64_t ns) { return static_cast<double>(ns) / 1e6; };
  double work = 0;
  for (const std::int64_t ns : emulation.simulated.work) work += static_cast<double>(ns);
  const double bubble = 1 - work / (static_cast<double>(measured.median()) * shape.workers);
  const double excess = static_cast<double>(measured.median()) / static_cast<double>(emulation.simulated.makespan) - 1;
  const char* clock = emulation.clock == ClockKind::kWall ? "wall" : "logical";
  const std::string transport(session.world->transport());
  if (emulation.json) {
    std::printf("%s\n", absl::StrFormat(
                            "{\"schedule\":%s,\"workers\":%d,\"micro_batches\":%d,\"clock\":\"%s\",\"transport\":\"%s\",\"cost\":\"%s\","
                            "\"unit\":\"%s\",\"simulated_ns\":%d,\"measured_ns\":[%s],\"median_ns\":%d,\"excess\":%.6f,"
                            "\"simulated_bubble\":%.6f,\"bubble\":%.6f,\"host_cpu_seconds\":%.6f}",
                            JsonQuote(emulation.schedule.name), shape.workers, shape.micro_batches, clock, transport, emulation.cost_text,
                            emulation.unit_text, emulation.simulated.makespan, absl::StrJoin(measured.makespans, ","), measured.median(),
                            excess, schedule::BubbleRatio(emulation.simulated), bubble, measured.host_seconds)
                            .c_str());
    return;
  }
  std::printf("%s: %d workers, %d micro-batches, %s in units of %s; %s clock, ranks over %s\n", emulation.schedule.name.c_str(),
              shape.workers, shape.micro_batches, emulation.cost_text.c_str(), emulation.unit_text.c_str(), clock, transport.c_str());
  std::printf("simulated  %14.6f ms  bubble %5.2f %%\n", ms(emulation.simulated.makespan),
              100 * schedule::BubbleRatio(emulation.simulated));
  std::printf("measured   %14.6f ms  bubble %5.2f %%  excess %+.2f %%  (median of %d, from %.6f to %.6f)\n", ms(measured.median()),
              100 * bubble, 100 * excess, emulation.repeats, ms(measured.makespans.front()), ms(measured.makespans.back()));
  std::printf("processor time of a step on this machine: %.1f ms\n", 1e3 * measured.host_seconds);
}

Status Emulate(const Emulation& emulation, Session& session) {
  Status status;
  if (emulation.schedule.shape.workers != session.ranks()) {
    status = InvalidArgument("the schedule has ", emulation.schedule.shape.workers, " workers, but there are ", session.ranks(),
                             " ranks; start as many ranks as workers");
  }
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, status));
  LYCIA_ASSIGN_OR_RETURN(const Measurement measured, Measure(emulation, session));
  if (session.rank() == 0) Print(emulation, measured, session);
  return OkStatus();
}

// One rank as a process; rank 0 plans for all.
Status EmulateProcess(const Arguments& arguments, const Launcher& launcher, Session& session) {
  StatusOr<Emulation> emulation = ReadFlags(arguments);
  Status status = emulation.status();
  if (status.ok()) status = CheckRanksFlag(arguments, launcher, session.ranks());
  if (status.ok() && session.rank() == 0) status = PlanSchedule(arguments, *emulation);
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, status));
  LYCIA_RETURN_IF_ERROR(ShareSchedule(*session.world, emulation->schedule));
  return Emulate(*emulation, session);
}

Status RunEmulate(const Arguments& arguments) {
  SessionOptions options;
  options.command = "lycia emulate";
  LYCIA_ASSIGN_OR_RETURN(options.launcher, LauncherOf(arguments, ProcessEnvironment(), FindMpi()));
  if (options.launcher.one_of_many()) {
    return RunRanks(options, [&](Session& session) { return EmulateProcess(arguments, options.launcher, session); });
  }
  LYCIA_ASSIGN_OR_RETURN(Emulation emulation, ReadFlags(arguments));
  LYCIA_RETURN_IF_ERROR(PlanSchedule(arguments, emulation));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t ranks, arguments.GetInteger("ranks", emulation.schedule.shape.workers, 1, kMaxThreadRanks));
  options.thread_ranks = static_cast<int>(ranks);
  return RunRanks(options, [&](Session& session) { return Emulate(emulation, session); });
}

}  // namespace

Command EmulateCommand() {
  Command command{
      .spec = {.name = "emulate",
               .summary = "runs a schedule on emulated devices: real executor and messages, compute of a given time",
               .flags = {{.name = "name", .value = "NAME", .doc = "schedule, as in `lycia schedule --help`"},
                         {.name = "from", .value = "FILE", .doc = "CSV of a schedule, instead of --name, --stages, --micro-batches"},
                         {.name = "stages", .value = "D", .doc = "workers, and stages of one copy of the model"},
                         {.name = "micro-batches", .value = "N", .doc = "micro-batches of a step, over all pipes"},
                         {.name = "pipes", .value = "P", .doc = "copies of the model"},
                         {.name = "chunks", .value = "V", .doc = "stages of a worker and pipe"},
                         {.name = "cost", .value = "COSTS", .doc = "F=,B=,I=,W= in units; stages apart by ';' (default F=1,B=2)"},
                         {.name = "latency", .value = "C", .doc = "of a message, in units (default 0)"},
                         {.name = "transmit", .value = "C", .doc = "of a message on its sender's link, in units (default 0)"},
                         {.name = "sync", .value = "C", .doc = "of one gradient sum, in units (default 0)"},
                         {.name = "gradient-sync", .value = "WHEN", .doc = "lazy, eager or eager-opt (default lazy)"},
                         {.name = "update", .value = "C", .doc = "of the optimizer's step, in units (default 0)"},
                         {.name = "max-activations", .value = "A", .doc = "most that a planned order keeps, in stages of D"},
                         {.name = "unit", .value = "TIME", .doc = "of the costs: 10ms, 250us, 1s (default 10ms)"},
                         {.name = "clock", .value = "CLOCK", .doc = "logical: exact, nothing waits; wall: real time (default logical)"},
                         {.name = "message-bytes", .value = "BYTES", .doc = "that really travel per message (default 65536)"},
                         {.name = "repeat", .value = "K", .doc = "measured steps, after one to warm up (default 5)"},
                         {.name = "ranks", .value = "N", .doc = "ranks as threads (default: the workers; with --rank: processes)"},
                         {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}},
               .details =
                   "Under mpirun, srun or torchrun the ranks are the workers. docs/emulation.md says what is exact and what is not."},
      .run = RunEmulate};
  for (const FlagSpec& flag : LauncherFlags()) command.spec.flags.push_back(flag);
  return command;
}

}  // namespace lycia
