// Every layout computes what the independent serial truth computes (docs/numerics.md), on ranks that are threads.
//
// A wrong layout would be caught only if the model has what layouts get wrong: a tied weight on two workers, dropout by global index,
// clipping over all parameters, a global batch that is cut unevenly over pipes, labels that are no loss tokens.
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/schedule/generators.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {
namespace {

void ExpectTruth(const Layout& layout) {
  const StatusOr<Record> record = RunOnThreads(layout);
  ASSERT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  const Status equal = CompareWithTruth(*record, TruthOf(layout));
  EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
}

class LayoutEquality : public testing::TestWithParam<std::string> {};

TEST_P(LayoutEquality, EveryDepthBatchAndReplicaCountEqualsTheTruth) {
  for (const int stages : {1, 2, 4, 6}) {
    if (stages == 1 && GetParam() == "chimera") continue;
    for (const int micro_batches : {1, 2, 3, 4, 6, 8, 12}) {
      for (const int data : {1, 2}) {
        const int samples = micro_batches <= 3 ? 2 : 1;
        ExpectTruth({.schedule = GetParam(), .stages = stages, .data = data, .micro_batches = micro_batches, .samples = samples});
      }
    }
  }
}

TEST_P(LayoutEquality, UntiedHeadMaskedLabelsUnevenStagesEqualTheTruth) {
  const Layout base{.schedule = GetParam(), .stages = 2, .data = 2, .micro_batches = 3, .samples = 2};
  Layout untied = base;
  untied.tied = false;
  ExpectTruth(untied);
  Layout masked = base;
  masked.masked = true;
  ExpectTruth(masked);
  for (const std::vector<std::int64_t>& partition : {std::vector<std::int64_t>{1, 5}, {5, 1}}) {
    Layout uneven = base;
    uneven.partition = partition;
    ExpectTruth(uneven);
  }
  Layout all{.schedule = GetParam(),
             .stages = 4,
             .data = 2,
             .micro_batches = 3,
             .samples = 2,
             .credits = 1,
             .tied = false,
             .masked = true,
             .partition = {1, 1, 3, 1},
             .mesh_order = "pipeline,z,y,x,data,context,expert"};
  ExpectTruth(all);
}

TEST_P(LayoutEquality, GroupedQueriesEqualTheTruth) {
  for (const int kv_heads : {1, 2}) {
    for (const int stages : {1, 2}) {
      if (stages == 1 && GetParam() == "chimera") continue;
      ExpectTruth(
          {.schedule = GetParam(), .stages = stages, .data = 2, .micro_batches = 3, .samples = 2, .heads = 4, .kv_heads = kv_heads});
    }
  }
}

TEST_P(LayoutEquality, RotaryPositionsEqualTheTruth) {
  for (const int kv_heads : {0, 1}) {
    for (const int stages : {1, 2, 4}) {
      if (stages == 1 && GetParam() == "chimera") continue;
      Layout layout{.schedule = GetParam(), .stages = stages, .data = 2, .micro_batches = 3, .samples = 2, .rotary = true, .masked = true};
      layout.kv_heads = kv_heads;
      ExpectTruth(layout);
      layout.recompute = Recompute::kLayers;  // q and k are turned once again
      ExpectTruth(layout);
    }
  }
}

TEST_P(LayoutEquality, F32GradientsAreAsGoodAsTheSerialRuns) {
  for (const int stages : {2, 4}) {
    const Layout layout{.schedule = GetParam(), .stages = stages, .data = 2, .micro_batches = 6, .precision = DType::kF32};
    const StatusOr<Record> record = RunOnThreads(layout);
    ASSERT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    const Status equal = CompareInLowPrecision(*record, TruthOf(layout, DType::kF32), TruthOf(layout), kF32Tolerance);
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

// Every schedule in bf16, halves and pairs too, with replicas: as good as one rank alone in bf16.
TEST(LayoutEquality, BF16GradientsAreAsGoodAsThoseOfOneRank) {
  for (const schedule::Generator& generator : schedule::Generators()) {
    Layout layout = LayoutsOf(generator.name, 2).back();
    layout.data = 2;
    layout.samples = 2;
    layout.precision = DType::kBF16;
    Layout serial{.schedule = "gpipe",
                  .micro_batches = layout.data * layout.micro_batches,
                  .samples = layout.samples,
                  .blocks = layout.blocks,
                  .precision = DType::kBF16};
    const StatusOr<Record> record = RunOnThreads(layout), of_serial = RunOnThreads(serial);
    ASSERT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    ASSERT_TRUE(of_serial.ok()) << serial.Name() << ": " << of_serial.status();
    const Status equal = CompareInLowPrecision(*record, *of_serial, TruthOf(layout), kBF16Tolerance);
    EXPECT_TRUE(equal.ok()) << layout.Name() << ": " << equal;
  }
}

INSTANTIATE_TEST_SUITE_P(Schedules, LayoutEquality, testing::Values("gpipe", "1f1b", "chimera"),
                         [](const auto& info) { return info.param == "1f1b" ? "OneFOneB" : info.param; });

TEST(LayoutEquality, ChimeraWithFourPipesEqualsTheTruth) {
  for (const int micro_batches : {1, 3, 4, 6, 8}) {
    for (const int data : {1, 2})
      ExpectTruth({.schedule = "chimera", .stages = 4, .data = data, .micro_batches = micro_batches, .pipes = 4});
  }
}

// What the comparison itself lets pass: a weight may differ by what Adam makes of its gradient's difference, and by no more.
TEST(Contract, WeightsMayDifferByWhatAdamMakesOfTheirGradients) {
  const Record& truth = TruthOf({.micro_batches = 2});
  EXPECT_TRUE(CompareWithTruth(truth, truth).ok());
  const std::string name = "h.1.mlp.c_fc.bias";
  const double gradient = truth.steps[0].gradients.at(name)[3];
  ASSERT_GT(std::abs(gradient), 1e-4);

  const auto compared = [&](double near_truth, double gradient_error, double weight_error) {
    Record expected = truth, record = truth;
    expected.steps.resize(1), record.steps.resize(1);
    expected.steps[0].gradients.at(name)[3] = near_truth;
    record.steps[0].gradients.at(name)[3] = near_truth + gradient_error;
    record.steps[0].weights.at(name)[3] += weight_error;
    return CompareWithTruth(record, expected);
  };
  EXPECT_TRUE(compared(gradient, 0, 0.5e-12 * kLearningRate).ok());
  EXPECT_FALSE(compared(gradient, 0, 2e-12 * kLearningRate).ok());
  // A gradient of nothing but rounding, 1e-17, moves the weight by 1e-9 of a step.
  const double moved = kLearningRate * truth.steps[0].clip_factor * 1e-17 / kEps;
  EXPECT_TRUE(compared(0, 1e-17, moved).ok());
  EXPECT_FALSE(compared(0, 1e-17, 3 * moved).ok());
  EXPECT_FALSE(compared(0, 0, moved).ok());
  // The gradients themselves have a bound, too.
  EXPECT_FALSE(compared(gradient, 1e-11, 0).ok());
}

}  // namespace
}  // namespace lycia::layouts
