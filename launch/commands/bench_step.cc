// lycia bench step: how long a training step takes here, and what it spends its time on.
#include <cstdio>
#include <optional>

#include "launch/commands/commands.h"
#include "launch/session.h"
#include "launch/step_bench.h"
#include "launch/step_bench_options.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

StatusOr<BenchTokens> OpenTokens(const StepBenchFlags& flags, const Config& config) {
  const BenchTokens::Sizes sizes{.steps = flags.options.warmup + flags.options.steps,
                                 .batch = config.train.batch,
                                 .context = config.model.context,
                                 .vocabulary = config.model.vocab};
  if (flags.tokens.empty()) return BenchTokens::Random(sizes);
  return BenchTokens::Read(flags.tokens, sizes);
}

// Collective. Every rank reads its tokens; what is wrong with them or with the sizes is said once.
Status BenchOneRank(const StatusOr<StepBenchFlags>& flags, Session& session) {
  Status status = flags.status();
  if (status.ok() && !session.threads && session.ranks() > 1 && flags->ranks > 0) {
    status = InvalidArgument("--ranks starts ranks as threads, but mpirun or srun has started this process as one rank of ",
                             session.ranks(), "; leave --ranks out");
  }
  Config config;
  if (status.ok()) {
    config = flags->config;
    status = ResolveConfig(session.ranks(), config);
  }
  std::optional<BenchTokens> tokens;
  if (status.ok()) {
    StatusOr<BenchTokens> opened = OpenTokens(*flags, config);
    status = opened.status();
    if (opened.ok()) tokens = *std::move(opened);
  }
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, status));
  LYCIA_ASSIGN_OR_RETURN(const StepSpeed speed, MeasureSteps(config, flags->options, *tokens, session));
  if (session.rank() == 0) std::fputs((flags->json ? StepSpeedJson(speed) : StepSpeedText(speed)).c_str(), stdout);
  return OkStatus();
}

Status BenchStep(const Arguments& arguments) {
  const StatusOr<StepBenchFlags> flags = ReadStepBenchFlags(arguments);
  SessionOptions options{.command = "lycia bench step"};
  if (!StartedByMpi()) {
    LYCIA_RETURN_IF_ERROR(flags.status());
    options.thread_ranks = flags->ranks > 0 ? flags->ranks : 1;
  }
  if (flags.ok()) {
    options.deadline_seconds = flags->config.watchdog.deadline_seconds;
    options.board_address = flags->config.watchdog.address;
    options.cuda = flags->config.parallel.device == "cuda";
  }
  return RunRanks(options, [&](Session& session) { return BenchOneRank(flags, session); });
}

}  // namespace

Command BenchStepCommand() { return {.spec = StepBenchSpec(), .run = BenchStep}; }

}  // namespace lycia
