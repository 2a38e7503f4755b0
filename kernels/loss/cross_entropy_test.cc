#include "kernels/loss/cross_entropy.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/loss/cross_entropy_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/complex_step.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using ::testing::HasSubstr;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

constexpr std::int64_t B = 3, T = 4;

// Every fourth label is -1, the others spread over the vocabulary, its ends included.
std::vector<double> Labels(std::int64_t V) {
  std::vector<double> labels;
  for (std::int64_t i = 0; i < B * T; ++i) labels.push_back(i % 4 == 2 ? -1.0 : static_cast<double>(i == 3 ? V - 1 : i * 7 % V));
  return labels;
}

TEST(CrossEntropyReference, GradientEqualsTheComplexStep) {
  constexpr std::int64_t V = 7;
  const auto logits = RandomValues(B * T * V, "logits", 2);
  const auto labels = Labels(V);
  const std::vector<std::int32_t> ids(labels.begin(), labels.end());
  std::vector<double> dlogits(logits.size());
  reference::CrossEntropyBackward(B * T, V, logits.data(), ids.data(), 0.125, dlogits.data());
  const auto truth = testing::ComplexStepGradient(logits, [&](const auto& x) {
    std::vector<testing::Complex> losses(B);
    reference::CrossEntropyForward(B, T, V, x.data(), ids.data(), losses.data());
    return testing::Weighted(losses, {0.125, 0.125, 0.125});
  });
  EXPECT_TRUE(AllNear(dlogits, truth, {.of_largest = 1e-14}));
}

TEST(CrossEntropyReference, EvenLogitsLoseLogV) {
  const std::vector<double> logits(10, 3.0);
  const std::int32_t label = 4;
  double loss = 0;
  reference::CrossEntropyForward(1, 1, 10, logits.data(), &label, &loss);
  EXPECT_NEAR(loss, std::log(10.0), 1e-15);
}

TEST(CrossEntropy, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t V : {1, 2, 15, 16, 17, 64, 257, 1000}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " V " << V);
        const double unit = dtype == DType::kF64 ? 1e-14 : 1e-6;
        const auto x = RoundTo(dtype, RandomValues(B * T * V, "logits", 4)), y = Labels(V);
        const std::vector<std::int32_t> ids(y.begin(), y.end());
        std::vector<double> losses(B), expected(x.size());
        reference::CrossEntropyForward(B, T, V, x.data(), ids.data(), losses.data());
        reference::CrossEntropyBackward(B * T, V, x.data(), ids.data(), 0.125, expected.data());

        const TestTensor logits(dtype, {B, T, V}, x), labels(DType::kI32, {B, T}, y);
        TestTensor dlogits(dtype, {B, T, V}), in_place(dtype, {B, T, V}, x), sums(DType::kF64, {B}), evaluated(DType::kF64, {B});
        CrossEntropy(*stream, {.logits = logits, .labels = labels, .sample_losses = sums.as<double>(), .dlogits = dlogits, .scale = 0.125});
        CrossEntropy(*stream, {.logits = in_place, .labels = labels, .dlogits = in_place, .scale = 0.125});
        CrossEntropy(*stream, {.logits = logits, .labels = labels, .sample_losses = evaluated.as<double>()});
        EXPECT_TRUE(AllNear(sums.values(), losses, {.absolute = unit, .relative = unit}));
        EXPECT_EQ(evaluated.values(), sums.values());
        const testing::Tolerance near{.absolute = 0.125 * unit};
        EXPECT_TRUE(AllNear(dlogits.values(), expected, testing::StoredTolerance(dtype, near, near), {B, T, V}));
        EXPECT_EQ(in_place.values(), dlogits.values());
        EXPECT_EQ(logits.values(), x);
        if (dtype != DType::kF32) continue;
        TestTensor rounded(DType::kBF16, {B, T, V});
        CrossEntropy(*stream, {.logits = logits, .labels = labels, .dlogits = rounded, .scale = 0.125});
        EXPECT_EQ(rounded.values(), RoundTo(DType::kBF16, dlogits.values()));
      }
    }
  });
}

// Also where only one lane of the last, partly filled vector is bad.
TEST(CrossEntropy, NotANumberAndInfinityShowInTheLoss) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const double bad : {nan, infinity}) {
        for (const std::size_t place : {0, 20, 69}) {
          std::vector<double> x = RandomValues(70, "x");
          x[place] = bad;
          const TestTensor logits(dtype, {1, 1, 70}, x), labels(DType::kI32, {1, 1}, {3});
          TestTensor loss(DType::kF64, {1}), dlogits(dtype, {1, 1, 70});
          CrossEntropy(*stream, {.logits = logits, .labels = labels, .sample_losses = loss.as<double>(), .dlogits = dlogits});
          EXPECT_FALSE(std::isfinite(loss.values()[0])) << Name(dtype) << " " << bad << " at " << place;
          EXPECT_TRUE(std::isnan(dlogits.values()[place]));
        }
      }
    }
  });
}

TEST(CrossEntropy, LargeLogitsNeitherOverflowNorVanish) {
  CpuStream stream;
  const TestTensor logits(DType::kF32, {1, 2, 3}, {10000, 9999, -10000, -1e30, 0, -1e30}), labels(DType::kI32, {1, 2}, {1, 1});
  TestTensor dlogits(DType::kF32, {1, 2, 3}), loss(DType::kF64, {1});
  CrossEntropy(*stream, {.logits = logits, .labels = labels, .sample_losses = loss.as<double>(), .dlogits = dlogits});
  EXPECT_NEAR(loss.as<double>()[0], std::log(1 + std::exp(1.0)), 1e-6);
  const double p = 1 / (1 + std::exp(-1.0));
  EXPECT_TRUE(AllNear(dlogits.values(), {p, -p, 0, 0, 0, 0}, {.absolute = 1e-6}));
}

TEST(CrossEntropy, ALabelOutsideTheVocabularyFailsTheStream) {
  for (const double bad : {-2.0, 3.0}) {
    CpuStream stream;
    const TestTensor logits(DType::kF32, {2, 2, 3}, std::vector<double>(12, 0.0)), labels(DType::kI32, {2, 2}, {0, 1, 2, bad});
    TestTensor loss(DType::kF64, {2});
    CrossEntropy(*stream, {.logits = logits, .labels = labels, .sample_losses = loss.as<double>()});
    EXPECT_THAT(std::string(stream->status().message()), HasSubstr("at sample 1, position 1 of the micro-batch is outside [-1, 3)"));
  }
}

}  // namespace
}  // namespace lycia
