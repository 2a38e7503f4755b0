#include "parallel/schedule/render.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

int Count(const std::string& text, const std::string& what) {
  int count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) ++count;
  return count;
}

// Well-formed as far as our own output goes: every element closed, in order, no raw ampersand.
void ExpectWellFormed(const std::string& svg) {
  std::vector<std::string> open;
  for (std::size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const std::size_t end = svg.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = svg.substr(at + 1, end - at - 1);
    ASSERT_EQ(tag.find('<'), std::string::npos) << tag;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty());
  for (std::size_t at = svg.find('&'); at != std::string::npos; at = svg.find('&', at + 1)) {
    const std::string entity = svg.substr(at, 5);
    EXPECT_TRUE(absl::StartsWith(entity, "&amp;") || absl::StartsWith(entity, "&lt;") || absl::StartsWith(entity, "&gt;") ||
                absl::StartsWith(entity, "&quot"))
        << entity;
  }
}

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

TEST(CsvTest, IsTheContractsGrammar) {
  EXPECT_EQ(RenderCsv(Must("chimera", 2, 2)), "p0.0F0,p1.1F1,p1.1B1,p0.0B0\np1.0F1,p0.1F0,p0.1B0,p1.0B1\n");
  EXPECT_EQ(RenderCsv(Complete(Must("gpipe", 1, 1))), "p0.0F0,p0.0B0\n") << "compute only";
}

TEST(CsvTest, RoundTrips) {
  for (const Generator& generator : Generators()) {
    for (const int D : {1, 2, 4, 8}) {
      for (const int N : {1, 3, 8, 13}) {
        const StatusOr<Schedule> schedule = Generate(generator.name, {.workers = D, .micro_batches = N});
        if (!schedule.ok() || absl::StartsWith(generator.name, "dualpipe")) continue;  // the grammar has no pairs
        const StatusOr<Schedule> parsed = ParseCsv(RenderCsv(*schedule));
        ASSERT_TRUE(parsed.ok()) << parsed.status();
        EXPECT_EQ(parsed->program, schedule->program);
        EXPECT_EQ(parsed->pipe_of_micro_batch, schedule->pipe_of_micro_batch);
        if (N > 1) {  // with one micro-batch chimera's up pipe is not seen
          EXPECT_EQ(parsed->worker_of, schedule->worker_of);
          EXPECT_EQ(parsed->shape, schedule->shape);
        }
        EXPECT_TRUE(Verify(*parsed, {.completed = false}).ok());
      }
    }
  }
}

TEST(CsvTest, ReadsPartsBlanksAndIdleCells) {
  const StatusOr<Schedule> schedule = ParseCsv("p0.0F0, ,p0.0B0/0 ,p0.0B0/1,\r\n,p0.1F0,p0.1I0,p0.1W0\n\n");
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  ASSERT_EQ(schedule->program[0].size(), 3u);
  EXPECT_EQ(schedule->program[0][2].part, 1);
  EXPECT_EQ(schedule->program[0][1].parts, 2);
  EXPECT_EQ(RenderCsv(*schedule), "p0.0F0,p0.0B0/0,p0.0B0/1\np0.1F0,p0.1I0,p0.1W0\n");
}

TEST(CsvTest, RejectsWithLineAndCell) {
  const auto error = [](const char* text) {
    const auto schedule = ParseCsv(text);
    EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(schedule.status().message());
  };
  EXPECT_THAT(error("p0.0F0,0F1"), AllOf(HasSubstr("line 1, cell 2 \"0F1\""), HasSubstr("not of the form")));
  EXPECT_THAT(error("p0.0F0\np0.0B0"), HasSubstr("the stage is on worker 0 too"));
  EXPECT_THAT(error("p0.0F0,p1.0B0"), HasSubstr("the micro-batch is in pipe 0 too"));
  EXPECT_THAT(error("p0.0F1"), HasSubstr("micro-batches are missing below 1"));
  EXPECT_THAT(error("p0.1F0"), HasSubstr("not every one of 1 pipes has all of 2 stages"));
  EXPECT_THAT(error("p0.0F0,p0.1F0\np0.2F0"), HasSubstr("3 stages do not divide among 2 workers"));
  for (const char* bad : {"", "\n\n", "p", "p0", "p0.", "p0.0", "p0.0X0", "p0.0F", "p0.0F0x", "p0.0F0/1", "p0.0B0/", "p0.0B0/300",
                          "p-1.0F0", "p99999999999999999999.0F0", "p0.1048576F0", "SYNC{0}"}) {
    error(bad);
  }
}

// Bytes that no one meant: no crash, and what is accepted renders.
TEST(CsvTest, SurvivesNoise) {
  constexpr std::uint32_t kSeed = 7;
  std::mt19937 random(kSeed);
  const std::string alphabet = "p.,/0123FBIW \n";
  for (int i = 0; i < 20'000; ++i) {
    std::string text = "p0.0F0,p0.0B0\np0.1F0,p0.1B0\n";
    for (int edit = 0; edit < 3; ++edit) text[random() % text.size()] = alphabet[random() % alphabet.size()];
    const StatusOr<Schedule> schedule = ParseCsv(text);
    if (!schedule.ok()) continue;
    EXPECT_EQ(ParseCsv(RenderCsv(*schedule))->program, schedule->program) << "seed " << kSeed << " text " << text;
    (void)Verify(*schedule, {.completed = false});
  }
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
  EXPECT_EQ(Count(svg, ">worker "), 4);
  EXPECT_THAT(svg, AllOf(HasSubstr("prefers-color-scheme:dark"), HasSubstr("forward, up pipe"),
                         HasSubstr("<title>p0.0F0 0-1 units</title>"), HasSubstr("bubble 20.0 %"), Not(HasSubstr("weight gradient"))));
  EXPECT_EQ(svg, RenderSvg(schedule, timeline));
}

TEST(SvgTest, LargeSchedulesKeepEveryNumberReadable) {
  const Schedule schedule = Must("chimera", 32, 128);
  const std::string svg = RenderSvg(schedule, *Simulate(schedule));
  ExpectWellFormed(svg);
  EXPECT_EQ(Count(svg, "class=\"l "), 32 * 256);
  EXPECT_LT(svg.size(), 3u << 20);
}

TEST(PanelsTest, PanelsShareOneTimeAxis) {
  const std::vector<Panel> panels = {
      {"promised", "as planned", {"rank 0"}, {{0, 0, 5'000'000, SpanKind::kForward, "0"}}},
      {"measured & <wall>",
       "2 cores",
       {"rank 0", "rank 1"},
       {{0, 0, 10'000'000, SpanKind::kBackward, "0", "p0.0B0"}, {1, 0, 10, SpanKind::kWait}}},
  };
  const std::string svg = DrawPanels(panels, {.min_width = 1000, .max_width = 1000});
  ExpectWellFormed(svg);
  EXPECT_THAT(svg, AllOf(HasSubstr("measured &amp; &lt;wall&gt;"), HasSubstr("0-5 ms</title>"), HasSubstr("p0.0B0 0-10 ms</title>"),
                         HasSubstr(">10</text>"), HasSubstr("waiting")));
  // Left edge 16 + 6 * 7 + 8 = 66, right margin 16: 918 px of time; half of it is 459.
  EXPECT_THAT(svg, AllOf(HasSubstr("width=\"459\""), HasSubstr("width=\"918\"")));
  ExpectWellFormed(DrawPanels({}, {}));
}

}  // namespace
}  // namespace lycia::schedule
