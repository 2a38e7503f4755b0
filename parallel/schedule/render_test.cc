#include "parallel/schedule/render.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/svg_for_test.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(TextTest, DrawsTimeAsColumns) {
  const Schedule schedule = Must("1f1b", 2, 2);
  EXPECT_EQ(RenderText(schedule, *Simulate(schedule)),
            "1f1b, 2 workers, 2 micro-batches, 1 pipe\nmakespan 9, bubble 33.3 %, peak activations 1 to 2, 1 copy of the weights\n"
            "worker 0 | F0 F1 .  .  B0--- .  B1---\n"
            "worker 1 | .  F0 B0--- F1 B1--- .  .\n");
}

TEST(TextTest, UpPipesAreSmallAndWorkersAligned) {
  const Schedule schedule = Must("chimera", 12, 2);
  EXPECT_THAT(RenderText(schedule, *Simulate(schedule)), AllOf(HasSubstr("2 pipes (up in small letters)"), HasSubstr("\nworker  0 | F0 "),
                                                               HasSubstr("\nworker 11 | f1 "), HasSubstr("b1---")));
}

TEST(TextTest, SaysWhenItCannotShowTime) {
  const Schedule schedule = Must("1f1b", 2, 1);
  SimulateOptions options;
  options.costs.forward = 1009, options.costs.backward = 2003;
  EXPECT_THAT(RenderText(schedule, *Simulate(schedule, options)), AllOf(HasSubstr("in issue order"), HasSubstr("worker 0 | F0 B0\n")));
}

Schedule Parsed(const std::string& csv) {
  const StatusOr<Schedule> schedule = ParseCsv(csv, "mine");
  EXPECT_TRUE(schedule.ok()) << schedule.status();
  return *schedule;
}

// At F = 1, B = 2 of a worker's stages together.
Timeline Half(const Schedule& schedule) {
  StatusOr<Timeline> timeline = Simulate(schedule, {.costs = *ToTicks(*ParseCosts("F=1,B=2"), TickDivisor(schedule))});
  EXPECT_TRUE(timeline.ok()) << timeline.status();
  return *std::move(timeline);
}

// Two stages on a worker, twice: without the stage "F0" would stand for two instructions.
TEST(TextTest, SaysWhichStageWhereAWorkerHasSeveral) {
  const Schedule wave = Parsed("0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n");
  EXPECT_EQ(RenderText(wave, Half(wave)),
            "mine, 2 workers, 1 micro-batch, 1 pipe (2F3: stage 2)\nmakespan 6, bubble 50.0 %, peak activations 1, 1 copy of the weights\n"
            "worker 0 | 0F0 .   .   3F0 3B0---- .   .   .   .   0B0----\n"
            "worker 1 | .   1F0 2F0 .   .   .   2B0---- 1B0---- .   .\n");
  const Schedule four_pipes = Must("chimera", 4, 4, 4);
  EXPECT_THAT(RenderText(four_pipes, *Simulate(four_pipes)), HasSubstr("4 pipes (up in small letters; 2F3: stage 2)"));
}

// DualPipe's block and halved instructions of both directions.
constexpr char kBlocksAndParts[] =
    "p0.0F0/0,p0.0F0/1,p1.1F1,(p1.1B1;p0.0B0/0)OVERLAP_F_B,p0.0B0/1\np1.0F1,p0.1F0/0,p0.1F0/1,p0.1I0/0,p0.1I0/1,p0.1W0/0,p0.1W0/1,p1.0B1\n";

TEST(TextTest, ShowsBlocksAndParts) {
  const Schedule schedule = Parsed(kBlocksAndParts);
  const std::string text = RenderText(schedule, *Simulate(schedule, {.costs = *ToTicks(*ParseCosts("F=2,B=4"), 4)}));
  EXPECT_THAT(text, HasSubstr("(up in small letters; F0&B1: one block)"));
  // The block waits for I0/0, which ends at 5; both outputs leave at 11.
  EXPECT_THAT(text, HasSubstr("worker 0 | F0/0 F0/1 f1------- .    b1-----------------&B0/0----- B0/1----- .    .\n"
                              "worker 1 | f1------- F0/0 F0/1 I0/0 I0/1 W0/0 W0/1 .    .    .    b1-----------------\n"));
}

TEST(TextTest, ReductionsAndUpdatesHaveTheirPlace) {
  const Schedule schedule = Complete(Must("1f1b", 2, 1));
  SimulateOptions options;
  options.costs.sync = 2, options.costs.update = 1;
  // Both gradients: worker 1's at 4, worker 0's at 6; each stage has one holder, so its sum starts at once.
  EXPECT_EQ(RenderText(schedule, *Simulate(schedule, options)),
            "1f1b, 2 workers, 1 micro-batch, 1 pipe\nmakespan 9, bubble 66.7 %, peak activations 1, 1 copy of the weights\n"
            "worker 0 | F0 .  .  .  B0--- .  .  U\n"
            "  sync   | .  .  .  .  .  .  S0--- .\n"
            "worker 1 | .  F0 B0--- .  .  U  .  .\n"
            "  sync   | .  .  .  .  S1--- .  .  .\n");
}

TEST(JsonTest, HasTheContractsFields) {
  const Schedule schedule = Must("chimera", 4, 4);
  const auto json = nlohmann::json::parse(RenderJson(schedule, *Simulate(schedule), Costs{}));
  EXPECT_EQ(json["name"], "chimera");
  EXPECT_EQ(json["makespan"], 16);
  EXPECT_EQ(json["bubble_ratio"], 0.25);
  EXPECT_EQ(json["peak_activations"], (std::vector<int>{3, 4, 4, 3}));
  EXPECT_EQ(json["weights_copies"], 2);
  EXPECT_EQ(json["costs"]["B"], 2);
  EXPECT_EQ(json["worker_of"][1], (std::vector<int>{3, 2, 1, 0}));
  EXPECT_EQ(json["program"].size(), 4u);
  EXPECT_EQ(json["program"][0][2], nlohmann::json::parse(R"({"op": "p1.3F2", "start": 3, "end": 4})"));
}

TEST(JsonTest, UnitsAreTheUsers) {
  const Schedule schedule = Must("1f1b", 1, 1);
  const Costs costs = *ParseCosts("F=1/2,B=3/4");
  const Timeline timeline = *Simulate(schedule, {.costs = *ToTicks(costs)});
  EXPECT_EQ(nlohmann::json::parse(RenderJson(schedule, timeline, costs))["makespan"], 1.25);
  EXPECT_NO_FATAL_FAILURE(nlohmann::json::parse(RenderJson(Complete(schedule), *Simulate(Complete(schedule)), costs)));
}

TEST(SvgTest, DrawsEveryInstructionOnceInBothThemes) {
  const Schedule schedule = Must("chimera", 4, 8);
  const Timeline timeline = *Simulate(schedule);
  const std::string svg = RenderSvg(schedule, timeline);
  ExpectWellFormed(svg);
  EXPECT_EQ(Count(svg, "<title>"), 4 * 16);
  EXPECT_EQ(Count(svg, "class=\"l "), 4 * 16) << "every number fits";
  EXPECT_EQ(Count(svg, "class=\"n\""), 4);
  EXPECT_THAT(svg,
              AllOf(HasSubstr("prefers-color-scheme:dark"), HasSubstr("forward, up pipe"),
                    HasSubstr("<title>worker 0: p0.0F0 0-1 units</title>"), HasSubstr("bubble 20.0 %"), Not(HasSubstr("weight gradient"))));
  EXPECT_EQ(svg, RenderSvg(schedule, timeline));
}

TEST(SvgTest, LargeSchedulesKeepEveryNumberReadable) {
  const Schedule schedule = Must("chimera", 32, 128);
  const std::string svg = RenderSvg(schedule, *Simulate(schedule));
  ExpectWellFormed(svg);
  EXPECT_EQ(Count(svg, "class=\"l "), 32 * 256);
  EXPECT_LT(svg.size(), 3u << 20);
}

TEST(SvgTest, JoinsBlocksAndShadesChunks) {
  const Schedule schedule = Parsed(kBlocksAndParts);
  const std::string svg = RenderSvg(schedule, *Simulate(schedule, {.costs = *ToTicks(*ParseCosts("F=2,B=4"), 4)}));
  ExpectWellFormed(svg);
  EXPECT_EQ(Count(svg, "class=\"b\""), 2) << "one block and the legend";
  EXPECT_THAT(svg, AllOf(HasSubstr("one block"), HasSubstr(">0/1</text>"), HasSubstr("weight gradient"), Not(HasSubstr("odd chunk"))));
  const Schedule wave = Parsed("0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n");
  EXPECT_THAT(RenderSvg(wave, Half(wave)),
              AllOf(HasSubstr("forward, odd chunk"), Not(HasSubstr("up pipe")), Not(HasSubstr("class=\"b\""))));
}

TEST(SvgTest, ReductionsHaveThinRowsOfTheirOwn) {
  const Schedule schedule = Complete(Must("chimera", 4, 4));
  SimulateOptions options;
  EXPECT_THAT(RenderSvg(schedule, *Simulate(schedule, options)), Not(HasSubstr("gradient sync"))) << "they take no time";
  options.costs.sync = 1, options.costs.update = 1;
  const std::string svg = RenderSvg(schedule, *Simulate(schedule, options));
  EXPECT_THAT(svg, AllOf(HasSubstr("gradient sync"), HasSubstr("update"), HasSubstr("<title>worker 0: SYNC{3} ")));
  EXPECT_EQ(Count(svg, ": SYNC{"), 8);
  EXPECT_EQ(Count(svg, ": UPDATE "), 4);
}

}  // namespace
}  // namespace lycia::schedule
