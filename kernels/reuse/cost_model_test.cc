#include "kernels/reuse/cost_model.h"

#include <utility>

#include "gtest/gtest.h"

namespace lycia {
namespace {

constexpr ReuseRates kRates = {.flops = 1e12, .bytes_per_s = 5e10};

TEST(CostModel, CountsByHand) {
  // 4096 x 1024 x 1024 in bf16: 8.59 GFLOP, 8.39 MB in, 8.39 MB out.
  const ReuseRegion linear = {.rows = 4096, .widths = {1024, 1024}, .dtype = DType::kBF16};
  EXPECT_DOUBLE_EQ(DenseFlops(linear), 8589934592.0);
  EXPECT_DOUBLE_EQ(ReuseBytes(linear, 0.5), 8388608 * 2.5);
  EXPECT_DOUBLE_EQ(DenseSeconds(linear, kRates), 8.589934592e-3);
  EXPECT_DOUBLE_EQ(ReuseSeconds(linear, kRates, 0.5), 4.294967296e-3 + 8388608 * 2.5 / 5e10);
  const ReuseRegion mlp = {.rows = 10, .widths = {3, 12, 5}, .dtype = DType::kF32, .means = true};
  EXPECT_DOUBLE_EQ(DenseFlops(mlp), 2 * 10 * (36 + 60));
  EXPECT_DOUBLE_EQ(ReuseBytes(mlp, 0.25), 4 * 10 * (2 * 3 + 5 + 0.25 * (3 + 5)));
}

// At the break-even both cost the same; on either side of it one is cheaper.
TEST(CostModel, BreakEvenIsWhereTheTimesMeet) {
  for (const bool means : {false, true}) {
    for (const std::int64_t width : {256, 1024, 4096}) {
      for (const auto& [fixed, mapped] : {std::pair{0.0, 0.0}, {1e-5, 0.0}, {1e-5, 0.3}}) {
        const ReuseRegion region = {.rows = 4096, .widths = {width, 4 * width, width}, .means = means};
        ReuseRates rates = kRates;
        rates.fixed_seconds = fixed;
        rates.mapped_flops = mapped * rates.flops;
        EXPECT_DOUBLE_EQ(ReuseSeconds(region, rates, 0.5) - ReuseSeconds(region, rates, 0.25),
                         0.25 * DenseSeconds(region, rates) / (mapped == 0 ? 1 : mapped) +
                             (ReuseBytes(region, 0.5) - ReuseBytes(region, 0.25)) / rates.bytes_per_s);
        const double ratio = BreakEvenRatio(region, rates), dense = DenseSeconds(region, rates);
        ASSERT_GT(ratio, 0);
        ASSERT_LT(ratio, 1);
        EXPECT_NEAR(ReuseSeconds(region, rates, ratio), dense, 1e-9 * dense);
        EXPECT_LT(ReuseSeconds(region, rates, ratio - 0.01), dense);
        EXPECT_GT(ReuseSeconds(region, rates, ratio + 0.01), dense);
      }
    }
  }
}

// Section 5.7's condition for whole rows from memory, (1 - r) >= (P / BW) (1 / K + 2 / N) for two-byte elements, counts three passes over
// the output where r = 1; ours, at r near 1, is the same to first order.
TEST(CostModel, AgreesWithTheConditionOfThePaperNotes) {
  for (const std::int64_t width : {1024, 4096, 16384}) {
    const double per_byte = kRates.flops / kRates.bytes_per_s;
    const ReuseRegion linear = {.rows = 4096, .widths = {width, width}, .dtype = DType::kBF16};
    const double by_condition = 1 - per_byte * 3.0 / static_cast<double>(width);
    EXPECT_NEAR(BreakEvenRatio(linear, kRates), by_condition, 2 * per_byte / static_cast<double>(width) * (1 - by_condition) + 1e-9);
  }
}

// Products of distinct rows at half the rate pay below half of the ratio, as far as bytes cost nothing.
TEST(CostModel, SlowerProductsOfDistinctRowsPayLater) {
  const ReuseRegion wide = {.rows = 65536, .widths = {16384, 16384}};
  ReuseRates rates = {.flops = 1e12, .bytes_per_s = 1e15};
  EXPECT_NEAR(BreakEvenRatio(wide, rates), 1, 1e-4);
  rates.mapped_flops = 0.5e12;
  EXPECT_NEAR(BreakEvenRatio(wide, rates), 0.5, 1e-4);
}

TEST(CostModel, SaysWhereReuseNeverPays) {
  const ReuseRegion narrow = {.rows = 4096, .widths = {8, 8}};
  EXPECT_LT(BreakEvenRatio(narrow, kRates), 0);
  EXPECT_GT(BreakEvenRatio({.rows = 4096, .widths = {4096, 4096}}, kRates), 0.9);
}

}  // namespace
}  // namespace lycia
