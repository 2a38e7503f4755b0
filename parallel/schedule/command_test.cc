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

using ::testing::AllOf;
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

TEST(ScheduleCommandTest, HasFiveFormats) {
  ScheduleCommandArgs args{.name = "chimera", .stages = 4, .micro_batches = 4};
  EXPECT_THAT(Output(args), StartsWith("chimera, 4 workers, 4 micro-batches"));
  args.format = "csv";
  EXPECT_THAT(Output(args), StartsWith("p0.0F0,p0.0F1,p1.3F2,p1.3B2,p1.3F3,p1.3B3,p0.0B0,p0.0B1\n"));
  args.format = "svg";
  EXPECT_THAT(Output(args), StartsWith("<svg xmlns"));
  args.format = "json";
  EXPECT_EQ(nlohmann::json::parse(Output(args))["makespan"], 16);
  args.format = "trace";
  EXPECT_EQ(nlohmann::json::parse(Output(args))["otherData"]["schedule"], "chimera");
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

TEST(ScheduleCommandTest, ReadsAScheduleWrittenByHand) {
  ScheduleCommandArgs args{.from = "some/mine.csv", .csv = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"};
  EXPECT_THAT(Output(args), StartsWith("mine, 2 workers, 2 micro-batches, 1 pipe\nmakespan 9, bubble 33.3 %"));
  args.csv = "0F0,0F1,0B0,0B1\n1F0,1B0,1B1,1F1\n";
  EXPECT_THAT(Error(args), AllOf(StartsWith("some/mine.csv: schedule mine, worker 1, instruction 2 (p0.1B1): the backward comes before"),
                                 HasSubstr(">>p0.1B1<<")));
  args.csv = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B0\n";
  EXPECT_THAT(Error(args), StartsWith("some/mine.csv: schedule mine, worker 1, instruction 3"));
  args.csv = "0F0,nonsense\n";
  EXPECT_THAT(Error(args), StartsWith("some/mine.csv: line 1, cell 2"));
  args.name = "chimera";
  EXPECT_THAT(Error(args), HasSubstr("leave out --name"));
}

TEST(ScheduleCommandTest, SyncUpdateAndLimitsCount) {
  ScheduleCommandArgs args{.name = "1f1b", .stages = 4, .micro_batches = 4, .sync = "2", .update = "1", .format = "json"};
  EXPECT_EQ(nlohmann::json::parse(Output(args))["makespan"], 21 + 2 + 1);
  args.sync = args.update = "0";
  args.transmit = "1";
  EXPECT_EQ(nlohmann::json::parse(Output(args))["makespan"],
            nlohmann::json::parse(Output({.name = "1f1b", .stages = 4, .micro_batches = 4, .latency = "1", .format = "json"}))["makespan"])
      << "a link that is never shared at once adds its time like latency";
  args.gradient_sync = "lazy";
  EXPECT_THAT(Output(args), HasSubstr("\"op\": \"SYNC{0}\""));
  args.max_activations = 3;
  EXPECT_THAT(Error(args), HasSubstr("1f1b keeps 4 activations on worker 0, --max-activations allows 3"));
}

TEST(ScheduleCommandTest, NamesTheFlagThatIsWrong) {
  EXPECT_THAT(Error({.name = "chimra", .stages = 4, .micro_batches = 4}), HasSubstr("did you mean chimera?"));
  EXPECT_THAT(Error({.name = "chimera", .stages = 3, .micro_batches = 4}), HasSubstr("use 2 or 4"));
  EXPECT_THAT(Error({.name = "chimera", .stages = 4, .micro_batches = 4, .pipes = -2}), HasSubstr("--pipes=-2"));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .cost = "F=x"}), StartsWith("--cost: "));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .latency = "-1"}), StartsWith("--latency: "));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .format = "png"}), HasSubstr("text, csv, svg, json, trace"));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .gradient_sync = "late"}), HasSubstr("lazy, eager, eager-opt"));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 3, .micro_batches = 4, .cost = "F=1;F=2"}), HasSubstr("2 lists of costs"));
  EXPECT_THAT(Error({.stages = 3, .micro_batches = 4}), HasSubstr("--name=NAME is required, or --from=FILE"));
  EXPECT_THAT(Error({.name = "1f1b", .micro_batches = 4}), HasSubstr("--stages=D is required"));
  EXPECT_THAT(Error({.name = "1f1b", .stages = 4}), HasSubstr("--micro-batches=N is required"));
}

TEST(ScheduleCommandTest, AutoShowsTheCandidates) {
  ScheduleCommandArgs args{.name = "auto", .stages = 4, .micro_batches = 8, .cost = "F=1,I=1,W=1", .latency = "1/2"};
  const std::string text = Output(args);
  EXPECT_THAT(text, StartsWith("schedule"));
  EXPECT_THAT(text, HasSubstr(" wins: makespan "));
  EXPECT_THAT(text, HasSubstr("\nworker 0 | "));
  args.format = "json";
  const nlohmann::json json = nlohmann::json::parse(Output(args));
  EXPECT_EQ(json["plan"]["candidates"][0]["makespan"], json["schedule"]["makespan"]);
  args.cost = "F=1,B=2;F=2,B=4;F=1,B=2;F=1,B=3";  // a V of half stages takes half of each
  args.format = "text";
  EXPECT_THAT(Output(args), HasSubstr(" wins: "));
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
  ExpectPicture("chimera_doubling.cc", Output({.name = "chimera-doubling", .stages = 4, .micro_batches = 8}));
  ExpectPicture("chimera_halving.cc", Output({.name = "chimera-halving", .stages = 2, .micro_batches = 4}));
  ExpectPicture("chimera_halving.cc", Output({.name = "chimera-halving", .stages = 4, .micro_batches = 2}));
  ExpectPicture("v_half.cc", Output({.name = "v-half", .stages = 4, .micro_batches = 6}));
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
