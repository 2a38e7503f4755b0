// Every layout computes what the independent serial truth computes (docs/numerics.md), on ranks that are threads.
//
// A wrong layout would be caught only if the model has what layouts get wrong: a tied weight on two workers, dropout by global index,
// clipping over all parameters, a global batch that is cut unevenly over pipes, labels that are no loss tokens.
#include <string>
#include <vector>

#include "gtest/gtest.h"
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

TEST_P(LayoutEquality, F32GradientsAreAsGoodAsTheSerialRuns) {
  for (const int stages : {2, 4}) {
    const Layout layout{.schedule = GetParam(), .stages = stages, .data = 2, .micro_batches = 6, .precision = DType::kF32};
    const StatusOr<Record> record = RunOnThreads(layout);
    ASSERT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
    const Status equal = CompareF32WithTruth(*record, TruthOf(layout, DType::kF32), TruthOf(layout));
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

}  // namespace
}  // namespace lycia::layouts
