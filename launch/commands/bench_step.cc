// lycia bench step: how long a training step takes here, and what it spends its time on.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "launch/commands/commands.h"
#include "launch/launcher.h"
#include "launch/session.h"
#include "launch/session_options.h"
#include "launch/step_bench.h"
#include "launch/step_bench_options.h"

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
Status BenchOneRank(const Arguments& arguments, const Launcher& launcher, const StatusOr<StepBenchFlags>& flags, Session& session) {
  Status status = flags.status();
  if (status.ok()) status = CheckRanksFlag(arguments, launcher, session.ranks());
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
  LYCIA_ASSIGN_OR_RETURN(options.launcher, LauncherOf(arguments, ProcessEnvironment(), FindMpi()));
  if (!options.launcher.one_of_many()) {
    LYCIA_RETURN_IF_ERROR(flags.status());
    options.thread_ranks = std::max(1, flags->ranks);
  }
  if (flags.ok()) ReadSessionOptions(flags->config, options);
  return RunRanks(options, [&](Session& session) { return BenchOneRank(arguments, options.launcher, flags, session); });
}

}  // namespace

Command BenchStepCommand() {
  CommandSpec spec = StepBenchSpec();
  for (const FlagSpec& flag : LauncherFlags()) spec.flags.push_back(flag);
  return {.spec = std::move(spec), .run = BenchStep};
}

}  // namespace lycia
