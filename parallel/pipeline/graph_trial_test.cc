#include "parallel/pipeline/graph_trial.h"

#include "gtest/gtest.h"

namespace lycia {
namespace {

// Steps until the trial has decided, of given seconds for each way; the first `captures` with graphs capture.
int Decide(GraphTrial& trial, double plain, double graphs, int captures) {
  int steps = 0;
  for (; !trial.decided() && steps < 100; ++steps) {
    const bool with = trial.UseGraphs();
    const bool captured = with && captures-- > 0;
    // The first step is slow for other reasons, and so are those that capture.
    trial.StepDone(steps == 0 ? 100 * plain : captured ? 10 * graphs : with ? graphs : plain, captured);
  }
  return steps;
}

TEST(GraphTrial, KeepsTheFaster) {
  GraphTrial faster(CudaGraphs::kAuto), slower(CudaGraphs::kAuto), equal(CudaGraphs::kAuto);
  EXPECT_EQ(Decide(faster, 0.012, 0.011, 1), 1 + 3 + 1 + 3);
  EXPECT_TRUE(faster.UseGraphs());
  EXPECT_EQ(faster.ToString(), "on: 11.00 ms a step, 12.00 without");
  Decide(slower, 0.011, 0.012, 2);
  EXPECT_FALSE(slower.UseGraphs());
  EXPECT_EQ(slower.ToString(), "off, with them: 12.00 ms a step, 11.00 without");
  Decide(equal, 0.011, 0.011, 0);
  EXPECT_FALSE(equal.UseGraphs());
}

TEST(GraphTrial, GivesUpWhereCallsKeepChanging) {
  GraphTrial trial(CudaGraphs::kAuto);
  EXPECT_EQ(Decide(trial, 1, 0.5, 1000), 1 + GraphTrial::kMeasuredSteps + GraphTrial::kMostCaptures);
  EXPECT_FALSE(trial.UseGraphs());
  EXPECT_EQ(trial.ToString(), "off: calls kept changing");
  GraphTrial late(CudaGraphs::kAuto);
  EXPECT_LE(Decide(late, 1, 0.5, GraphTrial::kMostCaptures - 1), GraphTrial::kMostSteps);
  EXPECT_TRUE(late.UseGraphs());
}

TEST(GraphTrial, AChoiceStands) {
  for (const CudaGraphs choice : {CudaGraphs::kOn, CudaGraphs::kOff}) {
    GraphTrial trial(choice);
    for (int step = 0; step < 20; ++step) {
      EXPECT_EQ(trial.UseGraphs(), choice == CudaGraphs::kOn);
      trial.StepDone(1 + step, /*captured=*/step == 1);
    }
    EXPECT_EQ(trial.ToString(), choice == CudaGraphs::kOn ? "on" : "off");
  }
}

}  // namespace
}  // namespace lycia
