// What would a wrong generator still pass? Counts alone, or the golden rows alone: so both, plus the mirror symmetry of the tile and the
// numbering of the command's contract. Rows are those of the paper's figures (Li & Hoefler 2021, figures 3, 7 and 8).
#include "parallel/schedule/generators.h"

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Error(std::string_view name, int workers, int micro_batches, int pipes = 0) {
  const StatusOr<Schedule> schedule = Generate(name, {.workers = workers, .micro_batches = micro_batches, .pipes = pipes});
  EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(schedule.status().message());
}

// "Fd0 Fu1 ...": direction, and the micro-batch's number within its pipe, as in the reference.
std::string LocalRow(const Schedule& schedule, int worker) {
  std::vector<int> local(schedule.shape.micro_batches);
  std::map<int, int> seen;
  for (int m = 0; m < schedule.shape.micro_batches; ++m) local[m] = seen[schedule.pipe_of_micro_batch[m]]++;
  return absl::StrJoin(schedule.program[worker], " ", [&](std::string* out, const Instruction& instruction) {
    absl::StrAppend(out, std::string(1, OpLetter(instruction.op)), IsUpPipe(schedule.shape, instruction.pipe) ? "u" : "d",
                    local[instruction.micro_batch]);
  });
}

std::string Numbers(const Schedule& schedule, int worker) {
  return absl::StrJoin(schedule.program[worker], " ", [](std::string* out, const Instruction& i) { absl::StrAppend(out, i.micro_batch); });
}

TEST(ChimeraTest, BasicUnitIsThePapersFigure3) {
  const Schedule schedule = Must("chimera", 4, 4);
  EXPECT_EQ(LocalRow(schedule, 0), "Fd0 Fd1 Fu0 Bu0 Fu1 Bu1 Bd0 Bd1");
  EXPECT_EQ(LocalRow(schedule, 1), "Fd0 Fu0 Fd1 Fu1 Bu0 Bd0 Bu1 Bd1");
  EXPECT_EQ(LocalRow(schedule, 2), "Fu0 Fd0 Fu1 Fd1 Bd0 Bu0 Bd1 Bu1");
  EXPECT_EQ(LocalRow(schedule, 3), "Fu0 Fu1 Fd0 Bd0 Fd1 Bd1 Bu0 Bu1");
  EXPECT_EQ(Numbers(schedule, 0), "0 1 2 2 3 3 0 1");
}

TEST(ChimeraTest, DirectConcatenationIsThePapersFigure7) {
  EXPECT_EQ(LocalRow(Must("chimera", 4, 8), 0), "Fd0 Fd1 Fu0 Bu0 Fu1 Bu1 Bd0 Fd2 Bd1 Fd3 Fu2 Bu2 Fu3 Bu3 Bd2 Bd3");
  EXPECT_THAT(Numbers(Must("chimera", 4, 8), 0), HasSubstr("0 4 1 5 6 6 7 7"));
}

TEST(ChimeraTest, FourPipesAreThePapersFigure8) { EXPECT_EQ(Numbers(Must("chimera", 8, 8, 4), 0), "0 1 6 2 7 3 4 4 5 5 2 6 3 7 0 1"); }

TEST(ChimeraTest, PlacementGoesDownAndUpAndTurnsWithThePipe) {
  EXPECT_THAT(Must("chimera", 4, 4).worker_of, ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(3, 2, 1, 0)));
  EXPECT_THAT(Must("chimera", 4, 4, 4).worker_of,
              ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(2, 3, 0, 1), ElementsAre(3, 2, 1, 0), ElementsAre(1, 0, 3, 2)));
}

TEST(ChimeraTest, MicroBatchesAreNumberedAsTheContractSays) {
  const auto pipes = [](int D, int N, int count) { return Must("chimera", D, N, count).pipe_of_micro_batch; };
  EXPECT_THAT(pipes(4, 4, 2), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(pipes(4, 7, 2), ElementsAre(0, 0, 1, 1, 0, 0, 1));
  EXPECT_THAT(pipes(4, 5, 2), ElementsAre(0, 0, 1, 1, 0));
  EXPECT_THAT(pipes(4, 1, 2), ElementsAre(0));
  EXPECT_THAT(pipes(2, 5, 2), ElementsAre(0, 1, 0, 1, 0));
  EXPECT_THAT(pipes(8, 8, 4), ElementsAre(0, 0, 1, 1, 2, 2, 3, 3));
  EXPECT_THAT(pipes(8, 6, 4), ElementsAre(0, 0, 1, 1, 2, 3));
  EXPECT_THAT(pipes(8, 11, 4), ElementsAre(0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2));
}

// The public generator drops micro-batches at D = 2, N >= 4 and D >= 6, N >= 3D; counted here by hand, apart from Verify.
TEST(ChimeraTest, NoMicroBatchIsDropped) {
  for (const int D : {2, 4, 6, 8, 12}) {
    for (int N = 1; N <= 4 * D + 3; ++N) {
      for (int pipes = 2; pipes <= D; pipes += 2) {
        if (D / 2 % (pipes / 2) != 0) continue;
        const Schedule schedule = Must("chimera", D, N, pipes);
        std::map<std::tuple<int, int, int>, int> count;  // (op, stage, micro-batch)
        for (const auto& program : schedule.program) {
          EXPECT_EQ(static_cast<int>(program.size()), 2 * N);  // every worker has one stage of every pipe
          for (const Instruction& i : program) ++count[{static_cast<int>(i.op), i.stage, i.micro_batch}];
        }
        ASSERT_EQ(static_cast<int>(count.size()), 2 * D * N) << "D " << D << " N " << N << " pipes " << pipes;
        for (const auto& [key, times] : count) ASSERT_EQ(times, 1);
      }
    }
  }
}

TEST(ChimeraTest, WorkersMirrorEachOther) {
  for (const int D : {2, 4, 6, 8, 12}) {
    for (const int N : {2, D, D + 2, 3 * D}) {
      if (N % 2 != 0) continue;
      const Schedule schedule = Must("chimera", D, N);
      for (int worker = 0; worker < D; ++worker) {
        std::string mirror = LocalRow(schedule, D - 1 - worker);
        for (char& c : mirror) c = c == 'u' ? 'd' : c == 'd' ? 'u' : c;
        EXPECT_EQ(LocalRow(schedule, worker), mirror) << "D " << D << " N " << N << " worker " << worker;
      }
    }
  }
}

TEST(ChimeraTest, RejectsWithReasonAndRemedy) {
  EXPECT_THAT(Error("chimera", 5, 4), AllOf(HasSubstr("even number of stages, got 5"), HasSubstr("use 4 or 6"), HasSubstr("1f1b")));
  EXPECT_THAT(Error("chimera", 1, 4), AllOf(HasSubstr("got 1"), HasSubstr("use 2")));
  EXPECT_THAT(Error("chimera", 8, 4, 6), AllOf(HasSubstr("divisor of 4, got 6"), HasSubstr("use one of 2, 4, 8")));
  EXPECT_THAT(Error("chimera", 8, 4, 3), HasSubstr("use one of 2, 4, 8"));
  EXPECT_THAT(Error("chimera", 8, 4, 1), HasSubstr("use one of 2, 4, 8"));
}

TEST(OneFOneBTest, RowsFollowTheDefinition) {
  const Schedule schedule = Must("1f1b", 4, 5);
  EXPECT_EQ(LocalRow(schedule, 0), "Fd0 Fd1 Fd2 Fd3 Bd0 Fd4 Bd1 Bd2 Bd3 Bd4");
  EXPECT_EQ(LocalRow(schedule, 2), "Fd0 Fd1 Bd0 Fd2 Bd1 Fd3 Bd2 Fd4 Bd3 Bd4");
  EXPECT_EQ(LocalRow(schedule, 3), "Fd0 Bd0 Fd1 Bd1 Fd2 Bd2 Fd3 Bd3 Fd4 Bd4");
  EXPECT_EQ(LocalRow(Must("1f1b", 4, 2), 0), "Fd0 Fd1 Bd0 Bd1");  // fewer micro-batches than the warm-up
}

TEST(GPipeTest, RowsFollowTheDefinition) {
  for (int worker = 0; worker < 3; ++worker) EXPECT_EQ(LocalRow(Must("gpipe", 3, 3), worker), "Fd0 Fd1 Fd2 Bd0 Bd1 Bd2");
}

TEST(GenerateTest, UnknownNamesGetTheNearest) {
  EXPECT_THAT(Error("chimra", 4, 4), AllOf(HasSubstr("\"chimra\""), HasSubstr("did you mean chimera?"), HasSubstr("(known: gpipe, 1f1b, ")));
  EXPECT_THAT(Error("1F1B", 4, 4), HasSubstr("did you mean 1f1b?"));
  EXPECT_THAT(Error("something-else", 4, 4), testing::Not(HasSubstr("did you mean")));
}

TEST(GenerateTest, RejectsSizesThatNoScheduleTakes) {
  for (const Generator& generator : Generators()) {
    EXPECT_THAT(Error(generator.name, 0, 4), HasSubstr("stages must be 1 to"));
    EXPECT_THAT(Error(generator.name, 4, 0), HasSubstr("micro-batches must be at least 1, got 0"));
    EXPECT_THAT(Error(generator.name, 4, 100'000'000), HasSubstr("use fewer micro-batches"));
  }
  EXPECT_THAT(Error("1f1b", 4, 4, 2), HasSubstr("one pipe, not 2"));
  EXPECT_THAT(Error("gpipe", 4, 4, 2), HasSubstr("one pipe, not 2"));
}

TEST(ForwardOnlyTest, UsesBothPipesOfTheSamePlacement) {
  const Schedule chimera = Must("chimera", 4, 4);
  for (const int N : {1, 2, 3, 4, 6, 9}) {
    const Schedule schedule = ForwardOnly(chimera, N);
    EXPECT_EQ(schedule.worker_of, chimera.worker_of);
    EXPECT_EQ(schedule.pipe_of_micro_batch, Must("chimera", 4, N).pipe_of_micro_batch);
    EXPECT_TRUE(Verify(schedule, {.completed = false, .training = false}).ok());
    for (const auto& program : schedule.program) EXPECT_EQ(static_cast<int>(program.size()), N);
  }
  EXPECT_EQ(LocalRow(ForwardOnly(chimera, 4), 0), "Fd0 Fd1 Fu0 Fu1");
  EXPECT_EQ(LocalRow(ForwardOnly(chimera, 4), 1), "Fd0 Fu0 Fd1 Fu1");
  EXPECT_EQ(LocalRow(ForwardOnly(Must("1f1b", 3, 1), 3), 2), "Fd0 Fd1 Fd2");
}

}  // namespace
}  // namespace lycia::schedule
