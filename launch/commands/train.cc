// lycia train --config=FILE [--set key=value]... [--ranks=N] [--reuse=MODE] [--resume]
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "launch/commands/commands.h"
#include "launch/config.h"
#include "launch/emulated_run.h"
#include "launch/launcher.h"
#include "launch/session.h"
#include "launch/session_options.h"
#include "launch/training_data.h"
#include "launch/training_run.h"

namespace lycia {
namespace {

constexpr std::int64_t kMaxThreadRanks = 256;

void OnStopSignal(int) { RequestStop(); }

// SIGTERM and SIGUSR1 ask for a checkpoint and an orderly end; every rank agrees on the step.
void InstallStopSignals() {
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGUSR1, &action, nullptr);
}

StatusOr<Config> ReadConfig(const Arguments& arguments) {
  std::vector<std::string> overrides = arguments.All("set");
  if (arguments.Has("reuse")) overrides.push_back("reuse.mode=" + arguments.Get("reuse"));
  if (arguments.Has("resume")) overrides.push_back("checkpoint.resume=true");
  return LoadConfig(arguments.Get("config"), overrides);
}

// One rank as a process, with its own configuration and data; what is wrong with them is said once, by rank 0.
Status TrainProcess(const Arguments& arguments, const Launcher& launcher, const StatusOr<Config>& read, Session& session) {
  Status status = read.status();
  if (status.ok()) status = CheckRanksFlag(arguments, launcher, session.ranks());
  Config config;
  if (status.ok()) {
    config = *read;
    status = ResolveConfig(session.ranks(), config);
  }
  const bool emulated = config.parallel.device == "emulated";
  StatusOr<TrainingData> data = absl::UnknownError("not opened");
  if (status.ok() && !emulated) {
    data = TrainingData::Open(config);
    status = data.status();
  }
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, status));
  if (emulated) return RunEmulation(config, session);
  return RunTraining(config, session, *data);
}

Status Train(const Arguments& arguments) {
  const StatusOr<Config> read = ReadConfig(arguments);
  const bool emulated = read.ok() && read->parallel.device == "emulated";
  if (!emulated) InstallStopSignals();
  SessionOptions options;
  options.command = "lycia train";
  LYCIA_ASSIGN_OR_RETURN(options.launcher, LauncherOf(arguments, ProcessEnvironment(), FindMpi()));
  if (read.ok()) ReadSessionOptions(*read, options);
  if (options.launcher.one_of_many()) {
    return RunRanks(options, [&](Session& session) { return TrainProcess(arguments, options.launcher, read, session); });
  }
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t ranks, arguments.GetInteger("ranks", 1, 1, kMaxThreadRanks));
  options.thread_ranks = static_cast<int>(ranks);
  LYCIA_RETURN_IF_ERROR(read.status());
  Config config = *read;
  LYCIA_RETURN_IF_ERROR(ResolveConfig(options.thread_ranks, config));
  if (emulated) {
    return RunRanks(options, [&](Session& session) { return RunEmulation(config, session); });
  }
  // Ranks as threads share one.
  LYCIA_ASSIGN_OR_RETURN(const TrainingData data, TrainingData::Open(config));
  return RunRanks(options, [&](Session& session) { return RunTraining(config, session, data); });
}

}  // namespace

Command TrainCommand() {
  CommandSpec spec{.name = "train",
                   .summary = "trains a model: under mpirun, srun or torchrun on their ranks, else on --ranks threads",
                   .flags = {{.name = "config", .value = "FILE", .doc = "TOML file with the keys below", .required = true},
                             {.name = "set", .value = "KEY=VALUE", .doc = "overrides one key, e.g. --set train.lr=3e-4", .repeated = true},
                             {.name = "ranks", .value = "N", .doc = "ranks as threads of this process (default 1; with --rank: processes)"},
                             {.name = "reuse", .value = "MODE", .doc = "short for --set reuse.mode=MODE: off, exact, quantized or lsh"},
                             {.name = "resume", .doc = "continues from the newest good checkpoint in output.dir"}},
                   .details = ConfigKeysHelp()};
  for (const FlagSpec& flag : LauncherFlags()) spec.flags.push_back(flag);
  return {.spec = std::move(spec), .run = Train};
}

}  // namespace lycia
