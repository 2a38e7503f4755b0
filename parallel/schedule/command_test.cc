// The command's contract (issue 2), and the pictures in the generators' first lines, which are this command's output.
#include "parallel/schedule/command.h"

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/render.h"
#include "parallel/schedule/simulate.h"

namespace lycia::schedule {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Output(const ScheduleCommandArgs& args) {
  const StatusOr<std::string> output = ScheduleCommand(args);
  EXPECT_TRUE(output.ok()) << output.status();
  return *output;
}

std::string Error(const ScheduleCommandArgs& args) {
  const StatusOr<std::string> output = ScheduleCommand(args);
  EXPECT_EQ(output.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(output.status().message());
}

TEST(ScheduleCommandTest, HasFourFormats) {
  ScheduleCommandArgs args{.name = "chimera", .stages = 4, .micro_batches = 4};
  EXPECT_THAT(Output(args), StartsWith("chimera, 4 workers, 4 micro-batches"));
  args.format = "csv";
  EXPECT_THAT(Output(args), StartsWith("p0.0F0,p0.0F1,p1.3F2,p1.3B2,p1.3F3,p1.3B3,p0.0B0,p0.0B1\n"));
  args.format = "svg";
  EXPECT_THAT(Output(args), StartsWith("<svg xmlns"));
  args.format = "json";
  EXPECT_EQ(nlohmann::json::parse(Output(args))["makespan"], 16);
}

TEST(ScheduleCommandTest, CostsLatencyAndPipesCount) {
  ScheduleCommandArgs args{
      .name = "1f1b", .stages = 8, .micro_batches = 24, .cost = "F=18.522,I=18.086,W=9.337", .latency = "0.601", .format = "json"};
  EXPECT_NEAR(static_cast<double>(nlohmann::json::parse(Output(args))["bubble_ratio"]), 0.2431, 0.00005);  // ZB paper, table 5
  args = {.name = "chimera", .stages = 8, .micro_batches = 16, .pipes = 4, .format = "json"};
  EXPECT_EQ(nlohmann::json::parse(Output(args))["makespan"], 54);
  args.cost = "F=1/3,B=2/3";
  EXPECT_EQ(nlohmann::json::parse(Output(args))["makespan"], 18);
}

TEST(ScheduleCommandTest, NamesTheFlagThatIsWrong) {
  EXPECT_THAT(Error({.name = "chimra", .stages = 4, .micro_batches = 4}), HasSubstr("did you mean chimera?"));
  EXPECT_THAT(Error({.name = "chimera", .stages = 3, .micro_batches = 4}), HasSubstr("use 2 or 4"));
  EXPECT_THAT(Error({.name = "chimera", .stages = 4, .micro_batches = 4, .pipes = -2}), HasSubstr("--pipes=-2"));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .cost = "F=x"}), StartsWith("--cost: "));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .latency = "-1"}), StartsWith("--latency: "));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .format = "png"}), HasSubstr("text, csv, svg, json"));
}

// Every line of the picture as a comment, somewhere in the file.
void ExpectPicture(const std::string& file, const std::string& picture) {
  std::ifstream stream(absl::StrCat("parallel/schedule/", file));
  std::stringstream source;
  source << stream.rdbuf();
  for (const auto line : absl::StrSplit(picture, '\n', absl::SkipEmpty())) {
    EXPECT_TRUE(absl::StrContains(source.str(), absl::StrCat("//   ", line, "\n"))) << file << " should show\n" << picture;
  }
}

TEST(PictureTest, GeneratorsShowWhatTheyMake) {
  ExpectPicture("gpipe.cc", Output({.name = "gpipe", .stages = 4, .micro_batches = 4}));
  ExpectPicture("one_f_one_b.cc", Output({.name = "1f1b", .stages = 4, .micro_batches = 4}));
  ExpectPicture("chimera.cc", Output({.name = "chimera", .stages = 4, .micro_batches = 4}));
  ExpectPicture("chimera_continuous.cc", Output({.name = "chimera-continuous", .stages = 4, .micro_batches = 8}));
  ExpectPicture("chimera_zb.cc", Output({.name = "chimera-zb", .stages = 4, .micro_batches = 4}));
  ExpectPicture("interleaved.cc", Output({.name = "interleaved", .stages = 2, .micro_batches = 4}));
  ExpectPicture("gems.cc", Output({.name = "gems", .stages = 4, .micro_batches = 3}));
  ExpectPicture("zb_h1.cc", Output({.name = "zb-h1", .stages = 4, .micro_batches = 8}));
  ExpectPicture("zb_h2.cc", Output({.name = "zb-h2", .stages = 4, .micro_batches = 8}));
  ExpectPicture("zb_v.cc", Output({.name = "zb-v", .stages = 2, .micro_batches = 4}));
  ExpectPicture("dualpipe.cc", Output({.name = "dualpipe", .stages = 4, .micro_batches = 8}));
  ExpectPicture("dualpipev.cc", Output({.name = "dualpipev", .stages = 2, .micro_batches = 4}));
  const Schedule evaluation = ForwardOnly(*Chimera({.workers = 4, .micro_batches = 4}), 8);
  ExpectPicture("forward_only.cc", RenderText(evaluation, *Simulate(evaluation)));
}

}  // namespace
}  // namespace lycia::schedule
