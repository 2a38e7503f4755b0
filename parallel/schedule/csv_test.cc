// A schedule must survive the way to CSV and back, and a file that a user wrote must be read as meant or refused with the place.
#include "parallel/schedule/csv.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CsvTest, IsTheContractsGrammar) {
  EXPECT_EQ(RenderCsv(Must("chimera", 2, 2)), "p0.0F0,p1.1F1,p1.1B1,p0.0B0\np1.0F1,p0.1F0,p0.1B0,p1.0B1\n");
  EXPECT_EQ(RenderCsv(Complete(Must("gpipe", 1, 1))), "p0.0F0,p0.0B0\n") << "compute only";
}

TEST(CsvTest, RoundTrips) {
  for (const Generator& generator : Generators()) {
    for (const int D : {1, 2, 4, 8}) {
      for (const int N : {1, 3, 8, 13}) {
        const StatusOr<Schedule> schedule = Generate(generator.name, {.workers = D, .micro_batches = N});
        if (!schedule.ok()) continue;
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

TEST(CsvTest, ReadsTorchsGrammar) {
  const StatusOr<Schedule> schedule = ParseCsv("0F0,0F1,,(0I0;0F2)OVERLAP_F_B,0W0,0B1,0B2\n,1F0,1B0,1F1,1B1,1F2,1B2\n");
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->shape, (ScheduleShape{.workers = 2, .stages = 2, .chunks = 1, .pipes = 1, .micro_batches = 3}));
  EXPECT_EQ(RenderCsv(*schedule),
            "p0.0F0,p0.0F1,(p0.0I0;p0.0F2)OVERLAP_F_B,p0.0W0,p0.0B1,p0.0B2\np0.1F0,p0.1B0,p0.1F1,p0.1B1,p0.1F2,p0.1B2\n");
  EXPECT_TRUE(schedule->program[0][2].paired_with_next);
  EXPECT_FALSE(schedule->program[0][3].paired_with_next);
  EXPECT_TRUE(Verify(*schedule, {.completed = false}).ok()) << Verify(*schedule, {.completed = false});
}

// A placement of no generator: three stages of pipe 0 on worker 0, one on worker 1, and the other way round in pipe 1.
TEST(CsvTest, PlacesAnyStageAnywhere) {
  const StatusOr<Schedule> schedule = ParseCsv("# comment\np0.0F0,p0.1F0,p1.2F1,p0.3F0,p0.3B0,p1.2B1,p0.1B0,p0.0B0\n\xEF\xBB\xBF", "odd");
  EXPECT_FALSE(schedule.ok()) << "a byte order mark stands only at the start";
  const StatusOr<Schedule> odd = ParseCsv(
      "\xEF\xBB\xBF# comment\np0.0F0,p0.1F0,p1.2F1,p0.3F0,p0.3B0,p1.2B1,p0.1B0,p0.0B0\n"
      "p1.0F1,p1.1F1,p0.2F0,p1.3F1,p1.3B1,p0.2B0,p1.1B1,p1.0B1\n",
      "odd");
  ASSERT_TRUE(odd.ok()) << odd.status();
  EXPECT_EQ(odd->name, "odd");
  EXPECT_EQ(odd->shape, (ScheduleShape{.workers = 2, .stages = 4, .chunks = 2, .pipes = 2, .micro_batches = 2}));
  EXPECT_EQ(odd->worker_of, (std::vector<std::vector<int>>{{0, 0, 1, 0}, {1, 1, 0, 1}}));
  EXPECT_TRUE(Verify(*odd, {.completed = false}).ok()) << Verify(*odd, {.completed = false});
}

// Parts are counted per micro-batch and direction, over all stages.
TEST(CsvTest, CountsPartsOfEachDirection) {
  const StatusOr<Schedule> schedule = ParseCsv("0F0/0,0F0/1,0B0/0,0B0/1,0B0/2\n1F0/0,1F0/1,1B0/0,1B0/1,1B0/2\n");
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  for (const auto& program : schedule->program) {
    for (const Instruction& instruction : program) EXPECT_EQ(instruction.parts, instruction.op == Op::kForward ? 2 : 3);
  }
  EXPECT_EQ(ParseCsv(RenderCsv(*schedule))->program, schedule->program);
}

TEST(CsvTest, RejectsWithLineAndCell) {
  const auto error = [](const char* text) {
    const auto schedule = ParseCsv(text);
    EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(schedule.status().message());
  };
  EXPECT_THAT(error("p0.0F0,F1"), AllOf(HasSubstr("line 1, cell 2 \"F1\""), HasSubstr("not of the form"), HasSubstr("OVERLAP_F_B")));
  EXPECT_THAT(error("# mine\n0F0,,0SEND_F0"), AllOf(HasSubstr("line 2, cell 3 \"0SEND_F0\""), HasSubstr("write compute only")));
  EXPECT_THAT(error("p0.0F0\np0.0B0"), AllOf(HasSubstr("line 2, cell 1"), HasSubstr("is on worker 0 (line 1, cell 1)")));
  EXPECT_THAT(error("p0.0F0,p1.0B0"), HasSubstr("micro-batch 0 is in pipe 0 (line 1, cell 1)"));
  EXPECT_THAT(error("p0.0F1"), HasSubstr("micro-batch 0 is missing"));
  EXPECT_THAT(error("p0.1F0"), HasSubstr("stage 0 of pipe 0 is missing"));
  EXPECT_THAT(error("p0.0F0\n\np0.1F0"), HasSubstr("line 2 has no cell"));
  EXPECT_THAT(error("p0.0F0,p0.1F0\np0.2F0"), AllOf(HasSubstr("3 stages do not divide among 2 workers"), HasSubstr("4 stages")));
  EXPECT_THAT(error("# nothing\n"), HasSubstr("the schedule is empty"));
  for (const char* bad : {"",
                          "\n\n",
                          "p",
                          "p0",
                          "p0.",
                          "p0.0",
                          "p0.0X0",
                          "p0.0F",
                          "p0.0F0x",
                          "p0.0B0/",
                          "p0.0B0/300",
                          "(0F0)OVERLAP_F_B",
                          "(0F0;0B0)",
                          "0F0;0B0",
                          "(0F0;)OVERLAP_F_B",
                          "OVERLAP_F_B",
                          "p-1.0F0",
                          "p99999999999999999999.0F0",
                          "p0.1048576F0",
                          "SYNC{0}"}) {
    error(bad);
  }
}

// Bytes that no one meant: no crash, and what is accepted renders.
TEST(CsvTest, SurvivesNoise) {
  constexpr std::uint32_t kSeed = 7;
  std::mt19937 random(kSeed);
  const std::string alphabet = "p.,/0123FBIW \n();#";
  for (int i = 0; i < 20'000; ++i) {
    std::string text = "p0.0F0,(p0.0B0;0F1)OVERLAP_F_B,0B1\np0.1F0,p0.1B0,1F1/0,1F1/1,1B1\n";
    for (int edit = 0; edit < 3; ++edit) text[random() % text.size()] = alphabet[random() % alphabet.size()];
    const StatusOr<Schedule> schedule = ParseCsv(text);
    if (!schedule.ok()) continue;
    EXPECT_EQ(ParseCsv(RenderCsv(*schedule))->program, schedule->program) << "seed " << kSeed << " text " << text;
    (void)Verify(*schedule, {.completed = false});
  }
}

}  // namespace
}  // namespace lycia::schedule
