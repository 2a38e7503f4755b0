#include "launch/step_bench.h"

#include <cmath>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"
#include "launch/step_bench_options.h"
#include "nlohmann/json.hpp"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

StatusOr<StepBenchFlags> Read(const std::vector<std::string>& words) {
  LYCIA_ASSIGN_OR_RETURN(const Arguments arguments, ParseArguments(StepBenchSpec(), words));
  return ReadStepBenchFlags(arguments);
}

std::string Problem(const std::vector<std::string>& words) {
  const Status status = Read(words).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(StepBenchFlags, AreGpt2UnlessToldOtherwise) {
  const auto flags = Read({});
  ASSERT_TRUE(flags.ok()) << flags.status();
  const Config& config = flags->config;
  EXPECT_EQ(config.model.layers, 12);
  EXPECT_EQ(config.model.hidden, 768);
  EXPECT_EQ(config.model.vocab, 50257);
  EXPECT_EQ(config.train.batch, 4);
  EXPECT_EQ(config.train.micro_batch, 4);
  EXPECT_EQ(config.train.lr, 1e-4);
  EXPECT_EQ(flags->options.steps, 8);
  EXPECT_FALSE(flags->json);
}

TEST(StepBenchFlags, ReachTheConfiguration) {
  const auto flags = Read({"--layers=2", "--sequence=64", "--batch=8", "--micro-batch=2", "--precision=bf16", "--threads=3", "--steps=5",
                           "--warmup=1", "--ranks=2", "--weights=w.safetensors", "--tokens=t.bin", "--format=json", "--set",
                           "parallel.stages=2", "--set", "train.clip=0"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  const Config& config = flags->config;
  EXPECT_EQ(config.model.layers, 2);
  EXPECT_EQ(config.model.context, 64);
  EXPECT_EQ(config.train.batch, 8);
  EXPECT_EQ(config.train.micro_batch, 2);
  EXPECT_EQ(config.train.precision, "bf16");
  EXPECT_EQ(config.train.clip, 0);
  EXPECT_EQ(config.train.steps, 6);
  EXPECT_EQ(config.parallel.threads, 3);
  EXPECT_EQ(config.parallel.stages, 2);
  EXPECT_EQ(config.init.from, "w.safetensors");
  EXPECT_EQ(flags->tokens, "t.bin");
  EXPECT_EQ(flags->ranks, 2);
  EXPECT_TRUE(flags->json);
}

TEST(StepBenchFlags, AFileSaysWhatFlagsDoNot) {
  const std::string path = ::testing::TempDir() + "/bench.toml";
  std::ofstream(path) << "[model]\nkind = \"llama\"\nlayers = 3\nhidden = 96\nheads = 6\n[train]\nprecision = \"bf16\"\nbatch = 6\n"
                         "micro_batch = 2\nlr = 0.5\n[data]\nfiles = [\"x.txt\"]\n[output]\ntrace_step = 9\n";
  auto flags = Read({"--config=" + path, "--sequence=32", "--steps=2"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->config.model.kind, "llama");
  EXPECT_EQ(flags->config.model.layers, 3);
  EXPECT_EQ(flags->config.model.context, 32);
  EXPECT_EQ(flags->config.train.precision, "bf16");
  EXPECT_EQ(flags->config.train.batch, 6);
  EXPECT_EQ(flags->config.train.micro_batch, 2);
  EXPECT_EQ(flags->config.train.lr, 1e-4);
  EXPECT_EQ(flags->config.output.trace_step, 0);
  EXPECT_TRUE(flags->config.data.files.empty());
  flags = Read({"--config=" + path, "--batch=4", "--precision=f32", "--set", "model.layers=5"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->config.train.micro_batch, 4);
  EXPECT_EQ(flags->config.train.precision, "f32");
  EXPECT_EQ(flags->config.model.layers, 5);
  EXPECT_THAT(Problem({"--config=" + path + ".none"}), HasSubstr("cannot be read"));
}

TEST(StepBenchFlags, SayWhatIsWrong) {
  EXPECT_THAT(Problem({"--precision=f8"}), HasSubstr("--precision=f8 must be f32, bf16 or f16"));
  EXPECT_THAT(Problem({"--format=xml"}), HasSubstr("text or json"));
  EXPECT_THAT(Problem({"--steps=100000000"}), HasSubstr("use fewer --steps"));
  EXPECT_THAT(Problem({"--layers=0"}), HasSubstr("--layers=0 must be an integer from 1"));
  EXPECT_THAT(Problem({"--vocabulary=255"}), HasSubstr("from 256"));
  EXPECT_THAT(Problem({"--set", "train.lrr=1"}), HasSubstr("train.lr"));
  EXPECT_THAT(Problem({"--set", "parallel.device=emulated"}), HasSubstr("computes nothing"));
  EXPECT_THAT(Problem({"--tokens="}), HasSubstr("names no file"));
  EXPECT_THAT(Problem({"--set", "data.files=x.txt"}), HasSubstr("--tokens"));
}

BenchTokens::Sizes SmallSizes() { return {.steps = 3, .batch = 2, .context = 8, .vocabulary = 256}; }

TEST(BenchTokens, LabelsAreTheTokensAfter) {
  const BenchTokens tokens = BenchTokens::Random(SmallSizes());
  std::vector<std::int32_t> in(16), labels(16), second(8);
  tokens.Load(1, 0, 2, in.data(), labels.data());
  tokens.Load(1, 1, 1, second.data(), nullptr);
  for (int t = 0; t + 1 < 8; ++t) EXPECT_EQ(labels[static_cast<std::size_t>(t)], in[static_cast<std::size_t>(t + 1)]);
  EXPECT_EQ(second, std::vector<std::int32_t>(in.begin() + 8, in.end()));
  EXPECT_EQ(tokens.LossTokens(0, 0, 2), 16);
}

TEST(BenchTokens, AreReadInTheFilesOrderAndRefusedWhereTheyDoNotFit) {
  const std::string path = ::testing::TempDir() + "/tokens.bin";
  std::vector<unsigned char> bytes;
  for (int i = 0; i < 54; ++i) {
    bytes.push_back(static_cast<unsigned char>(i));
    bytes.push_back(0);
  }
  const auto write = [&] {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  write();
  const auto tokens = BenchTokens::Read(path, SmallSizes());
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  std::vector<std::int32_t> in(8), labels(8);
  tokens->Load(2, 1, 1, in.data(), labels.data());  // (2 * 2 + 1) * 9 = 45
  EXPECT_EQ(in[0], 45);
  EXPECT_EQ(labels[7], 53);
  bytes[21] = 1;  // token 10 is 10 + 256
  write();
  EXPECT_THAT(std::string(BenchTokens::Read(path, SmallSizes()).status().message()), AllOf(HasSubstr("token 10 is 266"), HasSubstr("256")));
  bytes.resize(100);
  write();
  EXPECT_THAT(std::string(BenchTokens::Read(path, SmallSizes()).status().message()),
              AllOf(HasSubstr("has 50 tokens"), HasSubstr("need 54")));
  EXPECT_FALSE(BenchTokens::Read(path + ".none", SmallSizes()).ok());
}

TEST(StepBench, CountsALlamasThreeMatricesOfItsMlp) {
  const ModelConfig llama{
      .kind = "llama", .layers = 16, .heads = 32, .kv_heads = 8, .hidden = 2048, .context = 2048, .vocab = 128256, .ffn = 8192};
  const double weights = 16.0 * (2048 * (2048 + 2 * 512) + 2048 * 2048 + 3 * 2048 * 8192) + 128256.0 * 2048;
  EXPECT_DOUBLE_EQ(StepFlops(llama, 4), 6 * weights * 8192 + 12.0 * 16 * 8192 * 2048 * 2048);
}

TEST(StepBench, CountsAsOthersDo) {
  const ModelConfig gpt2{.layers = 12, .heads = 12, .hidden = 768, .context = 64, .vocab = 50257, .ffn = 3072};
  EXPECT_NEAR(StepFlops(gpt2, 4) / 1e9, 191.5, 0.3);  // the peers' figure: 6 N and attention
  ModelConfig at256 = gpt2;
  at256.context = 256;
  EXPECT_NEAR(StepFlops(at256, 4) / 1e9, 788, 1);
}

StepSpeed Example() {
  return {.layers = 2,
          .heads = 4,
          .hidden = 8,
          .vocabulary = 300,
          .sequence = 10,
          .batch = 5,
          .micro_batch = 5,
          .parameters = 1'500'000,
          .precision = "bf16",
          .schedule = "1f1b",
          .ranks = 1,
          .threads = 2,
          .isa = "avx2 f32",
          .vectors = "AVX2",
          .graphs = "on: 9.00 ms a step, 9.50 without",
          .warmup = 1,
          .seconds = {0.5, 0.2, 0.1, 0.4},
          .losses = {5.5, 5.25, 5, 4.75, 4.5},
          .parts = {.forward = 0.1, .backward = 0.15, .update = 0.03},
          .flops = 3e9,
          .peak_gflops = 40,
          .planned_bytes = 2'000'000'000,
          .peak_bytes = 2'100'000'000};
}

TEST(StepBench, JsonAndTextSayTheSame) {
  const auto json = nlohmann::json::parse(StepSpeedJson(Example()));
  EXPECT_DOUBLE_EQ(json["median_ms"], 300);
  EXPECT_DOUBLE_EQ(json["best_ms"], 100);
  EXPECT_NEAR(json["tokens_per_second"], 50 / 0.3, 1e-2);
  EXPECT_DOUBLE_EQ(json["gflops"], 10);
  EXPECT_DOUBLE_EQ(json["share_of_peak"], 0.25);
  EXPECT_EQ(json["loss"].size(), 5u);
  EXPECT_EQ(json["step_ms"].size(), 4u);
  EXPECT_EQ(json["isa"], "avx2 f32");
  EXPECT_EQ(json["cuda_graphs"], "on: 9.00 ms a step, 9.50 without");
  EXPECT_EQ(json["peak_bytes"], 2'100'000'000);
  EXPECT_THAT(StepSpeedText(Example()),
              AllOf(HasSubstr("graphs   on: 9.00 ms"), HasSubstr("median 300.0 ms"), HasSubstr("25.0% of 40.0"),
                    HasSubstr("backward 150.0 ms (50%)"), HasSubstr("rest 20.0 ms"), HasSubstr("2.100 GB"), HasSubstr("avx2 f32")));
}

// A model small enough to train while a test runs: the loss must fall on tokens that come again and again.
TEST(StepBench, RunsTheTrainerThatTrains) {
  const auto run = [](std::vector<std::string> words, int ranks, StepSpeed* speed) {
    std::vector<std::string> all = {"--layers=2", "--heads=2",       "--hidden=32", "--vocabulary=256", "--sequence=16",
                                    "--batch=4",  "--micro-batch=2", "--threads=1", "--steps=4",        "--warmup=1"};
    all.insert(all.end(), words.begin(), words.end());
    const auto flags = Read(all);
    if (!flags.ok()) return flags.status();
    return RunRanks({.command = "test", .thread_ranks = ranks}, [&](Session& session) -> Status {
      Config config = flags->config;
      LYCIA_RETURN_IF_ERROR(ResolveConfig(session.ranks(), config));
      const BenchTokens tokens = BenchTokens::Random({.steps = 5, .batch = 4, .context = 16, .vocabulary = 256});
      LYCIA_ASSIGN_OR_RETURN(const StepSpeed measured, MeasureSteps(config, flags->options, tokens, session));
      if (session.rank() == 0) *speed = measured;
      return OkStatus();
    });
  };
  StepSpeed one, two;
  ASSERT_TRUE(run({}, 1, &one).ok());
  EXPECT_EQ(one.seconds.size(), 4u);
  ASSERT_EQ(one.losses.size(), 5u);
  EXPECT_NEAR(one.losses[0], std::log(256.0), 0.1);
  EXPECT_GT(one.parts.forward, 0);
  EXPECT_GT(one.parts.backward, 0);
  EXPECT_GT(one.parts.update, 0);
  EXPECT_GT(one.peak_gflops, 0);
  EXPECT_GT(one.planned_bytes, 16 * one.parameters);  // f32: weight, gradient, m, v
  EXPECT_GE(one.peak_bytes, one.planned_bytes);
  const Status status = run({"--set", "parallel.stages=2"}, 2, &two);
  ASSERT_TRUE(status.ok()) << status;
  for (std::size_t i = 0; i < one.losses.size(); ++i) EXPECT_NEAR(one.losses[i], two.losses[i], 1e-5);
}

TEST(StepBench, WeightsThatAreNotThereAreAnInputError) {
  const auto flags = Read(
      {"--layers=1", "--heads=1", "--hidden=8", "--vocabulary=256", "--sequence=4", "--batch=1", "--weights=/nonexistent/w.safetensors"});
  ASSERT_TRUE(flags.ok());
  const Status status = RunRanks({.command = "test", .thread_ranks = 1}, [&](Session& session) -> Status {
    Config config = flags->config;
    LYCIA_RETURN_IF_ERROR(ResolveConfig(session.ranks(), config));
    return MeasureSteps(config, {.steps = 1, .warmup = 0}, BenchTokens::Random({1, 1, 4, 256}), session).status();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/w.safetensors"));
}

}  // namespace
}  // namespace lycia
