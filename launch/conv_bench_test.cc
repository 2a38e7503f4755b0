#include "launch/conv_bench.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/gemm/gemm_kernels.h"
#include "nlohmann/json.hpp"

namespace lycia {
namespace {

ConvLayer Small() {
  const ConvAxis axis = {.in = 5, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1};
  return {.name = "small", .shape = {.N = 1, .C = 3, .K = 4, .height = axis, .width = axis}};
}

// He et al. 2016, table 1: 3.8 billion multiply-adds with the classifier's 2 million (stride in the 3 x 3 layers makes it 4.1).
TEST(ConvBench, ResNet50HasItsLayersAndWork) {
  int layers = 0;
  double flops = 0;
  for (const ConvLayer& layer : ResNet50Layers(1)) {
    EXPECT_TRUE(CheckConvShape(layer.shape).ok()) << layer.name;
    layers += layer.uses;
    flops += layer.uses * layer.shape.flops();
  }
  EXPECT_EQ(layers, 53);  // 49 and four on the skip connections
  EXPECT_NEAR(flops / 2e9, 4.09, 0.01);
}

TEST(ConvBench, MeasuresEveryUseOfEveryType) {
  const auto rows = MeasureConvolutions({.layers = {Small()}, .dtypes = {DType::kF32, DType::kBF16}, .seconds = 0.001});
  ASSERT_TRUE(rows.ok()) << rows.status();
  std::set<std::pair<DType, std::string>> seen;
  for (const ConvSpeed& row : *rows) {
    seen.insert({row.dtype, row.use});
    EXPECT_EQ(row.isa, cpu::SelectedKernel(row.dtype).name);
    EXPECT_GT(row.gflops, 0);
    EXPECT_GT(row.product_gflops, 0);
    EXPECT_GT(row.lowered_gflops, 0);
    EXPECT_GT(row.peak_gflops, 0);
  }
  EXPECT_EQ(seen.size(), 6u);
}

TEST(ConvBench, JsonAndTableSayTheSame) {
  const std::vector<ConvSpeed> rows = {{.layer = "a",
                                        .use = "forward",
                                        .shape = Small().shape,
                                        .dtype = DType::kBF16,
                                        .isa = "avx2 f32",
                                        .uses = 3,
                                        .gflops = 25,
                                        .product_gflops = 100,
                                        .lowered_gflops = 50,
                                        .peak_gflops = 200}};
  const auto json = nlohmann::json::parse(ConvSpeedJson(rows));
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["use"], "forward");
  EXPECT_EQ(json[0]["uses"], 3);
  EXPECT_EQ(json[0]["gflops"], 25.0);
  EXPECT_EQ(json[0]["peak_gflops"], 200.0);
  EXPECT_THAT(ConvSpeedTable(rows),
              ::testing::AllOf(::testing::HasSubstr("25.0%"), ::testing::HasSubstr("0.50"), ::testing::HasSubstr("12.5%")));
}

TEST(ConvBench, RefusesWhatItCannotMeasure) {
  EXPECT_EQ(MeasureConvolutions({.cpu = {.threads = 0}}).status().code(), absl::StatusCode::kInvalidArgument);
  ConvLayer grouped = Small();
  grouped.shape.C = 4;
  grouped.shape.groups = 2;
  EXPECT_THAT(std::string(MeasureConvolutions({.layers = {grouped}, .dtypes = {DType::kF32}}).status().message()),
              ::testing::HasSubstr("groups"));
}

}  // namespace
}  // namespace lycia
