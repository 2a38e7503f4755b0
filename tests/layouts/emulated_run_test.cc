// The trainer on emulated devices: the time of a real step's instructions and messages, from configurations to metrics.jsonl.
#include "launch/emulated_run.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launch/share_schedule.h"
#include "launch/trainer.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "runtime/comm/transports.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

constexpr std::int64_t kC = 32, kT = 16, kSamples = 2;

struct Result {
  std::int64_t makespan = 0, simulated = 0;
};

StatusOr<Result> Emulate(const TrainerOptions& options) {
  std::atomic<std::int64_t> makespan{0}, simulated{0};
  const Status ran = RunThreadRanks(options.stages * options.data, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(options, world));
    for (int step = 0; step < 2; ++step) {
      LYCIA_ASSIGN_OR_RETURN(makespan, trainer->EmulateStep(step));
    }
    simulated = trainer->simulated_step().makespan;
    return OkStatus();
  });
  if (!ran.ok()) return ran;
  return Result{makespan, simulated};
}

TrainerOptions OptionsOf(const std::string& schedule, int stages, int data, int micro_batches) {
  TrainerOptions options;
  options.device = DeviceKind::kShape;
  options.model = GptConfig{.layers = 9, .heads = 4, .hidden = kC, .context = kT, .vocab = 48, .ffn = 96, .tied = true};
  options.schedule = schedule;
  options.stages = stages;
  options.data = data;
  options.micro_batches = micro_batches;
  options.samples_per_micro_batch = kSamples;
  options.emulation.emplace();
  schedule::Costs& costs = options.emulation->costs;
  costs.forward = {1003, 1000}, costs.backward = {2029, 1000}, costs.input = {1109, 1000}, costs.weight = {919, 1000};
  costs.latency = {311, 1000}, costs.sync = {4007, 1000}, costs.update = {601, 1000};
  options.emulation->bytes_per_second = 8.192e6;
  return options;
}

TEST(EmulatedRun, TheLogicalClockOfTheTrainerIsTheSimulators) {
  for (const schedule::Generator& schedule : schedule::Generators()) {
    for (const int data : {1, 2}) {
      TrainerOptions options = OptionsOf(schedule.name, 4, data, 8);
      options.update = data == 1 ? schedule::UpdateMode::kDecided : schedule::UpdateMode::kEager;
      options.gradient_sync = data == 1 ? schedule::GradientSyncMode::kEagerOpt : schedule::GradientSyncMode::kEager;
      const StatusOr<Result> result = Emulate(options);
      ASSERT_TRUE(result.ok()) << schedule.name << ": " << result.status();
      EXPECT_EQ(result->makespan, result->simulated) << schedule.name << " W " << data;
    }
  }
}

// One micro-batch goes up and down the pipeline alone: every stage, every boundary twice; the last is worker 0, whose sums are of its
// own stage and of the tied embedding, which worker 3 has joined before.
TEST(EmulatedRun, OneMicroBatchByTheFormula) {
  const StatusOr<Result> result = Emulate(OptionsOf("1f1b", 4, 1, 1));
  ASSERT_TRUE(result.ok()) << result.status();
  const std::int64_t transmit = 500'000;  // 2 samples x 16 tokens x 32 features x 4 bytes at 8.192 MB/s
  EXPECT_EQ(result->makespan, 4 * (1'003'000 + 2'029'000) + 2 * 3 * (transmit + 311'000) + 2 * 4'007'000 + 601'000);
}

TEST(EmulatedRun, CostsOfStagesThatThereAreNotAreRefused) {
  TrainerOptions options = OptionsOf("1f1b", 4, 1, 4);
  options.emulation->costs.stages.resize(3);
  EXPECT_EQ(Emulate(options).status().message(), "emulate.cost gives 3 stages, but there are 4; give one list for all, or one for each");
}

TEST(ShareSchedule, EveryRankGetsAllOfIt) {
  const schedule::Schedule sent =
      schedule::Complete(*schedule::Generate("chimera-halving", {.workers = 4, .micro_batches = 6}), {.tied = {{{0, 3}}}});
  const Status ran = RunThreadRanks(3, [&](Communicator& world) -> Status {
    schedule::Schedule got;
    got.name = "what was there before";
    if (world.rank() == 0) got = sent;
    LYCIA_RETURN_IF_ERROR(ShareSchedule(world, got));
    EXPECT_EQ(got.name, sent.name);
    EXPECT_EQ(got.shape, sent.shape);
    EXPECT_EQ(got.worker_of, sent.worker_of);
    EXPECT_EQ(got.pipe_of_micro_batch, sent.pipe_of_micro_batch);
    EXPECT_EQ(got.program, sent.program);
    EXPECT_EQ(got.sync_sets, sent.sync_sets);
    EXPECT_EQ(got.credits, sent.credits);
    EXPECT_EQ(got.stash_slots, sent.stash_slots);
    EXPECT_EQ(got.input_slots, sent.input_slots);
    EXPECT_EQ(got.handoff_slots, sent.handoff_slots);
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST(EmulatedRun, WritesMetricsAndNeedsNoText) {
  const TempDirectory directory;
  const std::vector<std::string> overrides = {"model.layers=4",
                                              "model.hidden=32",
                                              "model.context=16",
                                              "train.steps=3",
                                              "parallel.schedule=1f1b",
                                              "parallel.stages=4",
                                              "parallel.device=emulated",
                                              "emulate.cost=F=2,B=3",
                                              "output.dir=" + (directory / "run")};
  StatusOr<Config> config = ParseConfig("", "test", overrides);
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(ResolveConfig(4, *config).ok());
  const Status ran = RunRanks({.thread_ranks = 4}, [&](Session& session) { return RunEmulation(*config, session); });
  ASSERT_TRUE(ran.ok()) << ran;
  std::ifstream file(directory / "run/metrics.jsonl");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const nlohmann::json step = nlohmann::json::parse(line);
    EXPECT_EQ(step["step"], lines + 1);
    EXPECT_EQ(step["emulated_makespan_ms"], (16 + 3) * 5.0);  // (N + D - 1) (F + B)
    EXPECT_EQ(step["excess"], 0.0);
    EXPECT_NEAR(step["bubble"].get<double>(), 3.0 / 19, 1e-8);  // (D - 1) / (N + D - 1)
  }
  EXPECT_EQ(lines, 3);
}

}  // namespace
}  // namespace lycia
