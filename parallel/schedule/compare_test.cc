// The comparison must show the numbers of golden_test.cc's tables, mark the best of each column, and give a reason where there is no
// number.
#include "parallel/schedule/compare.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/svg_for_test.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

std::string Output(const CompareArgs& args) {
  const StatusOr<std::string> output = CompareCommand(args);
  EXPECT_TRUE(output.ok()) << output.status();
  return *output;
}

std::string Error(const CompareArgs& args) {
  const StatusOr<std::string> output = CompareCommand(args);
  EXPECT_EQ(output.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(output.status().message());
}

Json Of(const Json& round, const std::string& name) {
  for (const Json& entry : round["schedules"]) {
    if (entry["name"] == name) return entry;
  }
  ADD_FAILURE() << "no " << name << " in " << round;
  return {};
}

// D = 8: messages of a micro-batch cross 2 (D - 1) boundaries. Makespans and peaks of GPipe, 1F1B and Chimera at F = 1, B = 2.
TEST(CompareTest, NumbersAreThoseOfTheClosedForms) {
  const Json json = Json::parse(Output({.stages = 8, .micro_batches = "8,16,32", .schedules = "gpipe,1f1b,chimera", .format = "json"}));
  ASSERT_EQ(json["comparisons"].size(), 3u);
  const int sizes[] = {8, 16, 32};
  for (int i = 0; i < 3; ++i) {
    const Json& round = json["comparisons"][i];
    const int N = sizes[i], K = N / 8;
    EXPECT_EQ(round["micro_batches"], N);
    EXPECT_EQ(Of(round, "gpipe")["makespan"], 3 * (N + 7));
    EXPECT_EQ(Of(round, "1f1b")["makespan"], 3 * (N + 7));
    EXPECT_EQ(Of(round, "chimera")["makespan"], 3 * N + (K + 1) * 6);
    EXPECT_DOUBLE_EQ(Of(round, "1f1b")["bubble_ratio"], 7.0 / (N + 7));
    EXPECT_EQ(Of(round, "gpipe")["peak_activations"], std::vector<double>(8, N));
    EXPECT_EQ(Of(round, "1f1b")["peak_activations"], (std::vector<double>{8, 7, 6, 5, 4, 3, 2, 1}));
    EXPECT_EQ(Of(round, "1f1b")["weights_copies"], 1);
    EXPECT_EQ(Of(round, "chimera")["weights_copies"], 2);
    for (const char* name : {"gpipe", "1f1b", "chimera"}) EXPECT_EQ(Of(round, name)["messages_per_micro_batch"], 14);
  }
  // 1F1B: stage s is done s backwards before the end. Chimera, N = D: 2s, and 2(D-1) + D/2 - 1 for the last.
  EXPECT_EQ(Of(json["comparisons"][0], "1f1b")["sync_slack"], (std::vector<double>{0, 2, 4, 6, 8, 10, 12, 14}));
  EXPECT_EQ(Of(json["comparisons"][0], "chimera")["sync_slack"], (std::vector<double>{0, 2, 4, 6, 8, 10, 12, 17}));
}

TEST(CompareTest, MarksTheBestOfEachColumn) {
  const Json json = Json::parse(Output({.stages = 8, .micro_batches = "8", .schedules = "gpipe,1f1b,chimera", .format = "json"}));
  const Json& round = json["comparisons"][0];
  EXPECT_THAT(Of(round, "chimera")["best"], ElementsAre("makespan", "bubble_ratio", "span_bubble_ratio", "sync_slack"));
  EXPECT_THAT(Of(round, "1f1b")["best"], ElementsAre("weights_copies"));
  const std::string table = Output({.stages = 8, .micro_batches = "8,16", .schedules = "gpipe,1f1b,chimera"});
  EXPECT_THAT(table, AllOf(HasSubstr("8 micro-batches "), HasSubstr("16 micro-batches "), HasSubstr(" 36* "), HasSubstr(" 33.3* "),
                           HasSubstr(" 1-8* "), HasSubstr(" 1* "), HasSubstr(" 14 ")));
  EXPECT_EQ(Count(table, "\ngpipe "), 2);
}

TEST(CompareTest, SaysWhyThereIsNoNumber) {
  const CompareArgs odd{.stages = 3, .micro_batches = "4", .schedules = "1f1b,chimera"};
  EXPECT_THAT(Output(odd), AllOf(HasSubstr("not with these sizes:\n  chimera: "), HasSubstr("even number of stages, got 3")));
  CompareArgs json = odd;
  json.format = "json";
  const Json round = Json::parse(Output(json))["comparisons"][0];
  EXPECT_EQ(round["schedules"].size(), 1u);
  EXPECT_EQ(round["impossible"][0]["name"], "chimera");
  EXPECT_THAT(Output({.stages = 4, .micro_batches = "8", .schedules = "gpipe,1f1b", .max_activations = 4}),
              HasSubstr("gpipe: gpipe keeps 8 activations on worker 0, --max-activations allows 4"));
}

TEST(CompareTest, AHandWrittenScheduleTakesPart) {
  CompareArgs args{.stages = 2, .micro_batches = "1,2", .schedules = "1f1b", .from = "a/mine.csv"};
  args.csv = "0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n";
  const std::string table = Output(args);
  EXPECT_EQ(Count(table, "\nmine "), 1);
  EXPECT_THAT(table, HasSubstr("mine: a/mine.csv has 2 workers and 2 micro-batches"));
  args.csv = "0F0,0F1,0B0,0B1\n1B0,1F1,1F0,1B1\n";
  EXPECT_THAT(Output(args), HasSubstr("the backward comes before its forward")) << "listed with the reason";
  args.csv = "0F0,0X1\n";
  EXPECT_THAT(Error(args), StartsWith("a/mine.csv: line 1, cell 2"));
}

TEST(CompareTest, SvgHasOneTimeAxis) {
  const std::string svg = Output({.stages = 4, .micro_batches = "4,8", .schedules = "1f1b,chimera", .format = "svg"});
  ExpectWellFormed(svg);
  EXPECT_EQ(Count(svg, "class=\"h\""), 4);
  // The same instruction at the same time has the same place in panels of different length.
  const std::string first = svg.substr(svg.find("<title>worker 0: p0.0F0 0-1") - 60, 60);
  EXPECT_EQ(Count(svg, "<title>worker 0: p0.0F0 0-1 units"), 4);
  const std::string width = first.substr(first.find("width="), first.find(" height") - first.find("width="));
  EXPECT_GE(Count(svg, width), 4);
}

TEST(CompareTest, SyncCountsWhereItCosts) {
  const CompareArgs args{.stages = 8, .micro_batches = "8", .schedules = "1f1b,chimera", .sync = "3", .format = "json"};
  const Json lazy = Json::parse(Output(args))["comparisons"][0];
  EXPECT_EQ(Of(lazy, "1f1b")["makespan"], 45 + 3);
  EXPECT_GE(Of(lazy, "chimera")["makespan"], 36 + 3);
}

TEST(CompareTest, NamesTheFlagThatIsWrong) {
  EXPECT_THAT(Error({.stages = 4, .micro_batches = "4,x"}), HasSubstr("--micro-batches=4,x: \"x\""));
  EXPECT_THAT(Error({.stages = 4, .micro_batches = ""}), HasSubstr("--micro-batches="));
  EXPECT_THAT(Error({.stages = 4, .micro_batches = "4", .schedules = "1f1b,chimra"}),
              AllOf(StartsWith("--schedules: "), HasSubstr("did you mean chimera?")));
  EXPECT_THAT(Error({.stages = 4, .micro_batches = "4", .cost = "F"}), StartsWith("--cost: "));
  EXPECT_THAT(Error({.stages = 4, .micro_batches = "4", .transmit = "-1"}), StartsWith("--transmit: "));
  EXPECT_THAT(Error({.stages = 4, .micro_batches = "4", .gradient_sync = "early"}), HasSubstr("lazy, eager, eager-opt"));
  EXPECT_THAT(Error({.stages = 4, .micro_batches = "4", .format = "csv"}), HasSubstr("table, json, svg"));
  EXPECT_THAT(Error({.stages = 0, .micro_batches = "4"}), HasSubstr("--stages"));
}

}  // namespace
}  // namespace lycia::schedule
