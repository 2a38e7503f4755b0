// Lines must be valid JSON whatever the numbers, a resumed run must not repeat steps, and the progress line must fit where it is shown.
#include "launch/progress.h"

#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/lr_schedule.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Path(const std::string& name) { return ::testing::TempDir() + "/progress_" + std::to_string(getpid()) + "_" + name; }

std::vector<nlohmann::json> Lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

StepMetrics At(std::int64_t step) {
  return {.step = step,
          .loss = 2.5,
          .lr = 1e-3,
          .grad_norm = 0.75,
          .count = step * 1024,
          .per_second = 2048,
          .step_seconds = 0.5,
          .mfu_or_peak_share = 0.25};
}

TEST(MetricsWriter, WritesTheContractsKeys) {
  const std::string path = Path("keys");
  {
    StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 0);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(writer->Write(At(1)).ok());
    StepMetrics odd = At(std::numeric_limits<std::int64_t>::max());
    odd.loss = std::nan("");
    odd.grad_norm = std::numeric_limits<double>::infinity();
    odd.lr = 1.0 / 3;
    odd.count = odd.step;
    odd.unit = "images";
    ASSERT_TRUE(writer->Write(odd).ok());
    ASSERT_TRUE(writer->WriteEvaluation({.step = 1, .loss = 1.875, .accuracy = 0.5, .count = 4096}).ok());
  }
  const std::vector<nlohmann::json> lines = Lines(path);
  ASSERT_EQ(lines.size(), 3u);
  const nlohmann::json expected = {{"step", 1},           {"loss", 2.5},
                                   {"lr", 1e-3},          {"grad_norm", 0.75},
                                   {"tokens", 1024},      {"tokens_per_second", 2048.0},
                                   {"step_seconds", 0.5}, {"mfu_or_peak_share", 0.25}};
  EXPECT_EQ(lines[0], expected);
  EXPECT_TRUE(lines[1]["loss"].is_null());
  EXPECT_TRUE(lines[1]["grad_norm"].is_null());
  EXPECT_NEAR(lines[1]["lr"].get<double>(), 1.0 / 3, 1e-9);
  EXPECT_EQ(lines[1]["images"], std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(lines[1]["images_per_second"], 2048.0);
  EXPECT_EQ(lines[2], (nlohmann::json{{"step", 1}, {"held_out_loss", 1.875}, {"held_out_accuracy", 0.5}, {"held_out_tokens", 4096}}));
}

TEST(MetricsWriter, AStepInF16TellsItsLossScale) {
  const std::string path = Path("loss_scale");
  {
    StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 0);
    StepMetrics half = At(2);
    half.loss_scale = 65536;
    half.skipped_steps = 1;
    ASSERT_TRUE(writer.ok() && writer->Write(half).ok());
  }
  const std::vector<nlohmann::json> lines = Lines(path);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["loss_scale"], 65536);
  EXPECT_EQ(lines[0]["skipped_steps"], 1);
  EXPECT_EQ(lines[0].size(), 10u);
}

TEST(MetricsWriter, AStepsReuseIsOneLine) {
  const std::string path = Path("reuse");
  const ReuseMetrics layers[] = {
      {.layer = "h.0.attn", .use = "reuse", .unique_ratio = 0.25, .relative_error = 0.125, .width = 0.5, .predicted_saving = 0.75},
      {.layer = "h.0.mlp", .relative_error = std::nan("")}};
  {
    StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 0);
    ASSERT_TRUE(writer.ok() && writer->WriteReuse(7, layers).ok() && writer->WriteReuse(8, {}).ok());
  }
  const std::vector<nlohmann::json> lines = Lines(path);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["step"], 7);
  EXPECT_EQ(lines[0]["reuse"][0], (nlohmann::json{{"layer", "h.0.attn"},
                                                  {"use", "reuse"},
                                                  {"unique_ratio", 0.25},
                                                  {"relative_error", 0.125},
                                                  {"width", 0.5},
                                                  {"predicted_saving", 0.75}}));
  EXPECT_EQ(lines[0]["reuse"][1]["use"], "dense");
  EXPECT_TRUE(lines[0]["reuse"][1]["relative_error"].is_null());
  EXPECT_TRUE(lines[0]["reuse"][1]["unique_ratio"].is_null());  // not looked at
  EXPECT_EQ(lines[1], (nlohmann::json{{"step", 8}, {"reuse", nlohmann::json::array()}}));
}

TEST(MetricsWriter, AResumedRunRepeatsNoStepAndKeepsNoTornLine) {
  const std::string path = Path("resume");
  {
    StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 0);
    for (std::int64_t step = 1; step <= 12; ++step) ASSERT_TRUE(writer->Write(At(step)).ok());
    ASSERT_TRUE(writer->WriteEvaluation({.step = 10, .loss = 2.0, .count = 1}).ok());
  }
  std::ofstream(path, std::ios::app) << "{\"step\":1,\"loss\":2.";  // killed while writing
  {
    StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 10);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(writer->Write(At(11)).ok());
  }
  std::vector<std::int64_t> steps;
  for (const nlohmann::json& line : Lines(path)) steps.push_back(line["step"]);
  EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11}));
  {
    const StatusOr<MetricsWriter> fresh = MetricsWriter::Open(path, 0);  // a new run in an old folder
    ASSERT_TRUE(fresh.ok());
  }
  EXPECT_TRUE(Lines(path).empty());
  EXPECT_TRUE(MetricsWriter::Open(Path("never_written"), 5).ok());
  EXPECT_EQ(MetricsWriter::Open("/nowhere/metrics.jsonl", 0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(MetricsWriter().Write(At(1)).ok());  // writes nowhere
}

// What a ProgressLine prints for `steps` steps.
std::string Shown(ProgressLine::Options options, std::int64_t steps, bool message) {
  std::FILE* file = std::tmpfile();
  options.out = file;
  ProgressLine progress(options);
  for (std::int64_t step = 1; step <= steps; ++step) progress.Step(At(step));
  if (message) progress.Message("evaluated");
  progress.Finish();
  std::string text(static_cast<std::size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  std::fclose(file);
  return text;
}

TEST(ProgressLine, PlainLinesEveryKStepsAndAtTheEnd) {
  const std::string text = Shown({.steps = 25, .every = 10, .terminal = 0}, 25, false);
  EXPECT_EQ(text,
            "step 10/25  loss 2.5000  2.05k tokens/s  ETA 00:08\n"
            "step 20/25  loss 2.5000  2.05k tokens/s  ETA 00:03\n"
            "step 25/25  loss 2.5000  2.05k tokens/s  ETA 00:00\n");
}

TEST(ProgressLine, AStepInF16ShowsItsLossScale) {
  std::FILE* file = std::tmpfile();
  ProgressLine progress({.steps = 1, .out = file, .terminal = 0});
  StepMetrics half = At(1);
  half.loss_scale = 131072;
  progress.Step(half);
  std::rewind(file);
  char line[256] = {};
  ASSERT_NE(std::fgets(line, sizeof line, file), nullptr);
  std::fclose(file);
  EXPECT_STREQ(line, "step 1/1  loss 2.5000  scale 131072  2.05k tokens/s  ETA 00:00\n");
}

TEST(ProgressLine, ATerminalShowsOneRedrawnLine) {
  const std::string text = Shown({.steps = 20000, .every = 10, .terminal = 1}, 2, false);
  EXPECT_THAT(text, StartsWith("\r\x1b[Kstep 1/20000"));
  EXPECT_THAT(text, HasSubstr("ETA 2:46:3"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);  // Finish alone ends the line
  EXPECT_THAT(Shown({.steps = 9, .terminal = 1}, 2, true), HasSubstr("\r\x1b[Kevaluated\n"));
  EXPECT_EQ(Shown({.steps = 9, .terminal = 0}, 0, false), "");
}

TEST(LrSchedule, WarmsUpThenFallsAsACosine) {
  const LrSchedule schedule{.lr = 1.0, .min_lr = 0.1, .warmup_steps = 10, .steps = 110};
  EXPECT_DOUBLE_EQ(schedule.At(1), 0.1);
  EXPECT_DOUBLE_EQ(schedule.At(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule.At(60), 0.55);  // half way
  EXPECT_DOUBLE_EQ(schedule.At(35), 0.1 + 0.45 * (1 + std::cos(std::numbers::pi / 4)));
  EXPECT_DOUBLE_EQ(schedule.At(110), 0.1);
  EXPECT_DOUBLE_EQ(schedule.At(500), 0.1);  // past the end it stays
  EXPECT_DOUBLE_EQ((LrSchedule{.lr = 2.0, .min_lr = 0.5, .warmup_steps = 0, .steps = 1}.At(1)), 0.5);
  EXPECT_DOUBLE_EQ((LrSchedule{.lr = 2.0, .min_lr = 0.5, .warmup_steps = 4, .steps = 4}.At(4)), 2.0);
}

TEST(EmulatedSteps, AreTheirOwnLines) {
  const EmulatedStepMetrics metrics{.step = 3, .makespan_ms = 693.75, .simulated_ms = 690, .excess = 0.0054, .bubble = 0.3125};
  const std::string path = Path("emulated");
  {
    StatusOr<MetricsWriter> writer = MetricsWriter::Open(path, 0);
    ASSERT_TRUE(writer.ok() && writer->WriteEmulated(metrics).ok());
  }
  const nlohmann::json expected = {
      {"step", 3}, {"emulated_makespan_ms", 693.75}, {"simulated_makespan_ms", 690.0}, {"excess", 0.0054}, {"bubble", 0.3125}};
  EXPECT_EQ(Lines(path), std::vector<nlohmann::json>{expected});

  std::FILE* out = std::tmpfile();
  ProgressLine progress({.steps = 3, .every = 10, .out = out, .terminal = 0});
  EmulatedStepMetrics earlier = metrics;
  earlier.step = 2;
  progress.EmulatedStep(earlier);  // not due
  progress.EmulatedStep(metrics);
  std::rewind(out);
  char line[256] = {};
  ASSERT_NE(std::fgets(line, sizeof line, out), nullptr);
  EXPECT_STREQ(line, "step 3/3  emulated 693.750 ms  simulated 690.000 ms (+0.54 %)  bubble 31.2 %\n");
  std::fclose(out);
}

}  // namespace
}  // namespace lycia
