#include "launch/emulated_run.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "launch/progress.h"
#include "launch/run_report.h"
#include "launch/trainer.h"
#include "launch/trainer_options.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"
#include "runtime/trace/spans.h"

namespace lycia {
namespace {

constexpr std::int64_t kSpanCapacity = 1 << 16;

// Of rank 0.
StatusOr<MetricsWriter> OpenFiles(const Config& config) {
  LYCIA_RETURN_IF_ERROR(PrepareOutputFolder(config.output.dir));
  LYCIA_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(config.output.dir, "config.toml"), ToToml(config)));
  if (config.output.metrics.empty()) return MetricsWriter();
  return MetricsWriter::Open(JoinPath(config.output.dir, config.output.metrics), 0);
}

EmulatedStepMetrics MetricsOf(const schedule::Timeline& simulated, std::int64_t step, std::int64_t makespan_ns) {
  double work = 0;
  for (const std::int64_t ns : simulated.work) work += static_cast<double>(ns);
  const auto makespan = static_cast<double>(makespan_ns), expected = static_cast<double>(simulated.makespan);
  return {.step = step,
          .makespan_ms = makespan / 1e6,
          .simulated_ms = expected / 1e6,
          .excess = makespan / expected - 1,
          .bubble = 1 - work / (makespan * static_cast<double>(simulated.work.size()))};
}

}  // namespace

Status RunEmulation(const Config& config, Session& session) {
  const bool first = session.rank() == 0;
  SessionObserver observer(session, kSpanCapacity);
  TrainerOptions options = TrainerOptionsOf(config, session, observer);
  options.device = DeviceKind::kShape;
  options.emulation = EmulationOptionsOf(config.emulate);
  MetricsWriter metrics;
  Status status;
  if (first) {
    StatusOr<MetricsWriter> opened = OpenFiles(config);
    status = opened.status();
    if (status.ok()) metrics = *std::move(opened);
  }
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, status));
  StatusOr<std::unique_ptr<Trainer>> created = Trainer::Create(options, *session.world);
  if (!created.ok() && !absl::IsInvalidArgument(created.status())) return created.status();
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, created.status()));
  Trainer& trainer = **created;
  observer.set_replica(trainer.mesh().Neighbour(session.rank(), Axis::kPipeline, 0));
  if (first) PrintRunHeader(config, trainer, session.ranks(), 0, 0);

  ProgressLine progress({.steps = config.train.steps, .every = config.log.every});
  std::vector<std::int64_t> makespans;
  for (std::int64_t step = 1; step <= config.train.steps; ++step) {
    observer.StartStep(step);
    observer.recorder().Enable(step == config.output.trace_step);
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t makespan_ns, trainer.EmulateStep(step - 1));
    observer.recorder().Enable(false);
    if (!first) continue;
    const EmulatedStepMetrics measured = MetricsOf(trainer.simulated_step(), step, makespan_ns);
    LYCIA_RETURN_IF_ERROR(metrics.WriteEmulated(measured));
    progress.EmulatedStep(measured);
    makespans.push_back(makespan_ns);
  }
  if (first) progress.Finish();
  if (config.output.trace_step > 0) {
    LYCIA_ASSIGN_OR_RETURN(const std::vector<RankSpans> spans,
                           GatherSpans(*session.world, observer.recorder().recorded(), session.watchdog));
    if (first) LYCIA_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(config.output.dir, "trace.json"), ChromeTrace(spans)));
  }
  if (!first) return OkStatus();
  std::sort(makespans.begin(), makespans.end());
  const EmulatedStepMetrics median = MetricsOf(trainer.simulated_step(), config.train.steps, makespans[makespans.size() / 2]);
  std::printf("emulated device, %s clock: median step %.6f ms, simulated %.6f ms (%+.2f %%), bubble %.2f %%; no loss was computed\n",
              config.emulate.clock.c_str(), median.makespan_ms, median.simulated_ms, 100 * median.excess, 100 * median.bubble);
  return OkStatus();
}

}  // namespace lycia
