#include "kernels/loss/label_hits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

std::vector<double> HitsOf(DType dtype, const std::vector<double>& logits, const std::vector<std::int32_t>& labels, std::int64_t B,
                           std::int64_t T, int threads = 2) {
  const testing::CpuStream stream({.threads = threads});
  const auto V = static_cast<std::int64_t>(logits.size()) / (B * T);
  const testing::TestTensor x(dtype, {B, T, V}, logits);
  std::vector<double> hits(static_cast<std::size_t>(B), -1);
  LabelHits(*stream, {.logits = x, .labels = ConstTensor(labels.data(), DType::kI32, {B, T}), .sample_hits = hits.data()});
  EXPECT_TRUE(stream->Synchronize().ok());
  return hits;
}

TEST(LabelHitsTest, CountsLabelsWithTheLargestLogit) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    EXPECT_EQ(HitsOf(dtype, {1, 2, 3, 3, 2, 1}, {2, 2}, 1, 2), std::vector<double>{1});
    EXPECT_EQ(HitsOf(dtype, {1, 2, 3, 3, 2, 1}, {2, -1}, 2, 1), (std::vector<double>{1, 0}));
    EXPECT_EQ(HitsOf(dtype, {3, 2, 3, -1, -1, -1}, {0, 1}, 2, 1), (std::vector<double>{1, 1})) << "equal ones are all the largest";
    EXPECT_EQ(HitsOf(dtype, {kNan, 2, 3, kNan, 4, 5}, {0, 2}, 2, 1), (std::vector<double>{0, 0}));
    EXPECT_EQ(HitsOf(dtype, {7}, {0}, 1, 1), std::vector<double>{1});
  }
}

TEST(LabelHitsTest, EqualsASearchForTheMaximum) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int> small(1, 9), logit(-4, 4);
  for (int round = 0; round < 40; ++round) {
    const std::int64_t B = small(random), T = small(random), V = small(random) * small(random);
    std::vector<double> logits(static_cast<std::size_t>(B * T * V));
    for (double& value : logits) value = logit(random);
    std::vector<std::int32_t> labels(static_cast<std::size_t>(B * T));
    for (std::int32_t& label : labels) label = static_cast<std::int32_t>(random() % static_cast<unsigned>(V + 1)) - 1;
    std::vector<double> expected(static_cast<std::size_t>(B), 0);
    for (std::int64_t i = 0; i < B * T; ++i) {
      const auto row = logits.begin() + i * V;
      const std::int32_t label = labels[static_cast<std::size_t>(i)];
      if (label >= 0 && *(row + label) == *std::max_element(row, row + V)) ++expected[static_cast<std::size_t>(i / T)];
    }
    for (const int threads : {1, 2, 3}) EXPECT_EQ(HitsOf(DType::kF32, logits, labels, B, T, threads), expected);
  }
}

}  // namespace
}  // namespace lycia
