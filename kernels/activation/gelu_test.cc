#include "kernels/activation/gelu.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/activation/gelu_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/complex_step.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

TEST(GeluReference, SlopeEqualsTheComplexStep) {
  const std::vector<double> x = RandomValues(50, "x", 2), dout = RandomValues(50, "dout");
  std::vector<double> din(50);
  reference::GeluBackward(50, x.data(), dout.data(), din.data());
  const auto truth = testing::ComplexStepGradient(x, [&](const auto& z) {
    std::vector<testing::Complex> out(z.size());
    reference::GeluForward<testing::Complex>(50, z.data(), out.data());
    return testing::Weighted(out, dout);
  });
  EXPECT_TRUE(AllNear(din, truth, {.absolute = 1e-14, .relative = 1e-13}));
}

// Values of torch.nn.functional.gelu(x, approximate="tanh") in float64.
TEST(GeluReference, EqualsPublishedValues) {
  EXPECT_NEAR(reference::Gelu(1.0), 0.8411919906082768, 1e-15);
  EXPECT_NEAR(reference::Gelu(-1.0), -0.15880800939172324, 1e-15);
  EXPECT_NEAR(reference::Gelu(3.0), 2.996362607918227, 1e-14);
  EXPECT_EQ(reference::Gelu(0.0), 0.0);
}

TEST(Gelu, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t n : testing::kLengths) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << n);
        // In f64 it is the reference that loses digits, where 1 + tanh cancels.
        const testing::Tolerance tolerance =
            testing::StoredTolerance(dtype, {.absolute = 1e-7, .relative = 1e-6}, {.absolute = 2e-14, .relative = 1e-14});
        const auto x = RoundTo(dtype, RandomValues(n, "x", 3)), g = RoundTo(dtype, RandomValues(n, "g"));
        std::vector<double> expected(x.size()), expected_din(x.size());
        reference::GeluForward(n, x.data(), expected.data());
        reference::GeluBackward(n, x.data(), g.data(), expected_din.data());
        const TestTensor in(dtype, {n}, x), dout(dtype, {n}, g);
        TestTensor out(dtype, {n}), din(dtype, {n});
        GeluForward(*stream, {.in = in, .out = out});
        GeluBackward(*stream, {.in = in, .dout = dout, .din = din});
        EXPECT_TRUE(AllNear(out.values(), expected, tolerance));
        EXPECT_TRUE(AllNear(din.values(), expected_din, tolerance));
      }
    }
  });
}

// In long double, whose range holds every power of an f64: x s and s + x s (1 - s) (2u)', s = 1 / (1 + exp(-2u)).
struct Truth {
  double out, slope;
};
Truth TruthOf(double value) {
  const long double x = value, scale = 2 * std::sqrt(2 / 3.14159265358979323846264338327950288L), cubic = 0.044715L;
  const long double z = scale * (x + cubic * x * x * x), h = std::exp(-std::abs(z)), s = z < 0 ? h / (1 + h) : 1 / (1 + h);
  const long double slope = s + x * scale * (1 + 3 * cubic * x * x) * (h / ((1 + h) * (1 + h)));
  return {static_cast<double>(x * s), static_cast<double>(slope)};
}

void ExpectTrue(DType dtype, const std::vector<double>& x, const testing::Tolerance& f32, const testing::Tolerance& f64) {
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<double> expected, expected_slope;
  for (const double value : x) {
    const Truth truth = TruthOf(value);
    expected.push_back(truth.out);
    expected_slope.push_back(truth.slope);
  }
  CpuStream stream;
  const TestTensor in(dtype, {n}, x), ones(dtype, {n}, std::vector<double>(x.size(), 1.0));
  testing::ForEveryIsa([&] {
    TestTensor out(dtype, {n}), slope(dtype, {n});
    GeluForward(*stream, {.in = in, .out = out});
    GeluBackward(*stream, {.in = in, .dout = ones, .din = slope});
    const std::vector<double> y = out.values(), dy = slope.values();
    EXPECT_TRUE(AllNear(y, expected, testing::StoredTolerance(dtype, f32, f64))) << Name(dtype);
    EXPECT_TRUE(AllNear(dy, expected_slope, testing::StoredTolerance(dtype, f32, f64))) << Name(dtype) << " slope";
    for (std::size_t i = 0; i < x.size(); ++i) {  // f64's exp(-1600) is 0
      if (std::abs(x[i]) < 30) continue;
      ASSERT_EQ(y[i], x[i] > 0 ? x[i] : 0) << x[i];
      ASSERT_EQ(dy[i], x[i] > 0 ? 1 : 0) << x[i];
    }
  });
}

TEST(Gelu, IsRightForEveryFiniteBf16) {
  std::vector<double> x;
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    const double value = std::bit_cast<float>(code << 16);
    if (std::isfinite(value)) x.push_back(value);
  }
  ExpectTrue(DType::kBF16, x, {.absolute = 1e-7, .relative = 1e-6}, {});
}

TEST(Gelu, IsRightOverTheRangeOfF32AndF64) {
  std::vector<double> singles, doubles = {-100, 100, -22, 22};
  for (std::uint64_t bits = 0; bits <= 0xffffffffu; bits += 99991) {
    const double value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isfinite(value)) singles.push_back(value);
  }
  for (std::uint64_t i = 0; i < 0x10000; ++i) {
    const double value = std::bit_cast<double>(i << 48 | i * 0x9e3779b97f4a >> 2);
    if (std::isfinite(value)) doubles.push_back(value);
  }
  for (double x = -32; x <= 32; x += 0.0137) {
    singles.push_back(static_cast<float>(x));
    doubles.push_back(x);
  }
  ExpectTrue(DType::kF32, singles, {.absolute = 1e-7, .relative = 1e-6}, {});
  ExpectTrue(DType::kF64, doubles, {}, {.absolute = 2e-15, .relative = 1e-15});
}

TEST(Gelu, NotANumberAndInfinityPropagate) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      const TestTensor in(dtype, {3}, {nan, infinity, 1}), dout(dtype, {3}, {1, 1, nan});
      TestTensor out(dtype, {3}), din(dtype, {3});
      GeluForward(*stream, {.in = in, .out = out});
      GeluBackward(*stream, {.in = in, .dout = dout, .din = din});
      EXPECT_TRUE(std::isnan(out.values()[0]));
      EXPECT_EQ(out.values()[1], infinity);
      EXPECT_TRUE(std::isnan(din.values()[0]));
      EXPECT_TRUE(std::isnan(din.values()[2]));
    }
  });
}

}  // namespace
}  // namespace lycia
