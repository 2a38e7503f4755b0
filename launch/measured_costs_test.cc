// Costs of a recorded step: means over whole micro-batches, of processor time, in the syntax that plans are made from.
#include "launch/measured_costs.h"

#include <vector>

#include "gtest/gtest.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"

namespace lycia {
namespace {

// A step in which stage s takes (s + 1) times `forward`, `input` and `weight` ns of processor for a whole micro-batch, an input gradient
// being a full backward's too; the even micro-batches a tenth more, the odd ones a tenth less. Waiting takes no processor.
std::vector<RankSpans> Step(const schedule::Schedule& schedule, double forward, double backward, double input, double weight) {
  std::vector<RankSpans> workers(schedule.program.size());
  for (std::size_t w = 0; w < workers.size(); ++w) {
    for (std::size_t i = 0; i < schedule.program[w].size(); ++i) {
      const schedule::Instruction& instruction = schedule.program[w][i];
      double ns = 0;
      if (instruction.op == schedule::Op::kForward) ns = forward;
      if (instruction.op == schedule::Op::kBackward) ns = backward;
      if (instruction.op == schedule::Op::kBackwardInput) ns = input;
      if (instruction.op == schedule::Op::kBackwardWeight) ns = weight;
      ns *= (instruction.stage + 1) * (instruction.micro_batch % 2 == 0 ? 1.1 : 0.9) / instruction.parts;
      Span span;
      span.instruction = static_cast<std::int32_t>(i);
      span.start_ns = 17, span.end_ns = 1'000'000'000;
      span.cpu_start_ns = 5'000, span.cpu_end_ns = 5'000 + static_cast<std::int64_t>(ns + 0.5);
      workers[w].spans.push_back(span);
    }
  }
  return workers;
}

std::string CostsOf(const std::string& name, int workers, int micro_batches) {
  const schedule::Schedule schedule = schedule::Complete(*schedule::Generate(name, {.workers = workers, .micro_batches = micro_batches}));
  const StatusOr<std::string> costs = MeasuredCosts(schedule, Step(schedule, 1.5e6, 3e6, 1.25e6, 0.75e6));
  EXPECT_TRUE(costs.ok()) << costs.status();
  return costs.ok() ? *costs : "";
}

TEST(MeasuredCosts, AreMeansOverTheMicroBatchesOfEachStage) {
  EXPECT_EQ(CostsOf("1f1b", 2, 4), "F=1.500,B=3.000;F=3.000,B=6.000");
  EXPECT_EQ(CostsOf("chimera", 2, 4), "F=1.500,B=3.000;F=3.000,B=6.000");  // each stage on both workers
  EXPECT_EQ(CostsOf("zb-h1", 2, 4), "F=1.500,I=1.250,W=0.750;F=3.000,I=2.500,W=1.500");
  EXPECT_EQ(CostsOf("zb-v", 1, 2), "F=1.500,I=1.250,W=0.750;F=3.000,I=2.500,W=1.500");  // two stages of one worker
}

TEST(MeasuredCosts, APartCountsAsItsShareOfAMicroBatch) { EXPECT_EQ(CostsOf("chimera-halving", 2, 4), "F=1.500,B=3.000;F=3.000,B=6.000"); }

TEST(MeasuredCosts, AreCostsToPlanBy) {
  const StatusOr<schedule::Costs> costs = schedule::ParseCosts(CostsOf("zb-h1", 4, 8));
  ASSERT_TRUE(costs.ok()) << costs.status();
  ASSERT_EQ(costs->stages.size(), 4u);
  EXPECT_EQ(costs->stages[3].input.value(), 5.0);
  // So fast that a cost rounds to nothing, which no cost may be.
  const schedule::Schedule schedule = schedule::Complete(*schedule::Generate("1f1b", {.workers = 2, .micro_batches = 2}));
  EXPECT_EQ(*MeasuredCosts(schedule, Step(schedule, 3, 3, 3, 3)), "F=0.001,B=0.001;F=0.001,B=0.001");
}

TEST(MeasuredCosts, NeedEverySpan) {
  const schedule::Schedule schedule = schedule::Complete(*schedule::Generate("1f1b", {.workers = 2, .micro_batches = 2}));
  std::vector<RankSpans> step = Step(schedule, 1e6, 2e6, 1e6, 1e6);
  step[1].spans.pop_back();
  step[1].dropped = 1;
  const Status status = MeasuredCosts(schedule, step).status();
  EXPECT_EQ(status.message(), "worker 1 recorded no span of an instruction, and dropped 1");
}

}  // namespace
}  // namespace lycia
