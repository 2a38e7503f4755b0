#include "launch/reuse_bench.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/gemm/gemm_kernels.h"
#include "nlohmann/json.hpp"

namespace lycia {
namespace {

TEST(ReuseBench, MeasuresEveryRegionTypeAndRatio) {
  const auto rows = MeasureReuse({.regions = {{.rows = 60, .widths = {33, 20}}, {.rows = 40, .widths = {16, 64, 16}}},
                                  .dtypes = {DType::kF32, DType::kBF16},
                                  .ratios = {1, 0.5, 0.1},
                                  .seconds = 0.001});
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 12u);
  for (const ReuseSpeed& row : *rows) {
    EXPECT_TRUE(row.same_bits);
    EXPECT_EQ(row.isa, cpu::SelectedKernel(row.region.dtype).name);
    for (const double us : {row.dense_us, row.hash_us, row.gemm_us, row.expand_us, row.reuse_us, row.copy_gbps}) EXPECT_GT(us, 0);
  }
  EXPECT_EQ((*rows)[0].ratio, 1);
  EXPECT_EQ((*rows)[1].ratio, 0.5);
  EXPECT_EQ((*rows)[2].ratio, 0.1);
  EXPECT_EQ((*rows)[0].break_even, (*rows)[2].break_even);
}

// The rows are made so that every way finds the same clusters, and their means are the rows.
TEST(ReuseBench, EveryPolicyFindsTheSameRows) {
  for (const ReusePolicy policy : {ReusePolicy::kExact, ReusePolicy::kQuantized, ReusePolicy::kLsh}) {
    const auto rows = MeasureReuse({.regions = {{.rows = 90, .widths = {130, 20}}},
                                    .dtypes = {DType::kF32, DType::kBF16},
                                    .ratios = {0.5},
                                    .policy = policy,
                                    .copy_rows = true,
                                    .seconds = 0.001});
    ASSERT_TRUE(rows.ok()) << rows.status();
    for (const ReuseSpeed& row : *rows) {
      EXPECT_EQ(row.ratio, 0.5) << row.policy;
      EXPECT_TRUE(row.same_bits) << row.policy;
      EXPECT_GT(row.gather_us, 0);
    }
  }
}

TEST(ReuseBench, JsonAndTableSayTheSame) {
  // 2 * 4096 * 1024 * 1024 FLOP in 10 ms; at half the rows 5 ms and 2.5 * 16.8 MB at 41.94304 GB/s, 1 ms: 6 ms of 8.
  const std::vector<ReuseSpeed> rows = {{.region = {.rows = 4096, .widths = {1024, 1024}},
                                         .policy = "exact",
                                         .isa = "avx2",
                                         .ratio = 0.5,
                                         .dense_us = 10000,
                                         .hash_us = 700,
                                         .gemm_us = 5500,
                                         .expand_us = 1500,
                                         .reuse_us = 8000,
                                         .copy_gbps = 41.94304,
                                         .break_even = 0.77,
                                         .same_bits = true}};
  const auto json = nlohmann::json::parse(ReuseSpeedJson(rows));
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["widths"], (std::vector<int>{1024, 1024}));
  EXPECT_EQ(json[0]["policy"], "exact");
  EXPECT_EQ(json[0]["dense_gflops"], 858.99);
  EXPECT_EQ(json[0]["speedup"], 1.25);
  EXPECT_EQ(json[0]["share_of_limit"], 0.75);
  EXPECT_EQ(json[0]["same_bits"], true);
  EXPECT_THAT(ReuseSpeedTable(rows), ::testing::AllOf(::testing::HasSubstr("1024>1024"), ::testing::HasSubstr(" 75.0%"),
                                                      ::testing::HasSubstr(" 1.25 "), ::testing::HasSubstr(" 0.77 ")));
}

TEST(ReuseBench, RefusesWhatItCannotMeasure) {
  const auto code = [](const ReuseBenchOptions& options) { return MeasureReuse(options).status().code(); };
  EXPECT_EQ(code({.cpu = {.threads = 0}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.ratios = {0}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.ratios = {1.5}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.regions = {{.rows = 4, .widths = {3}}}}), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lycia
