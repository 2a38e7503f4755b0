#include "kernels/activation/swiglu.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/activation/swiglu_ref.h"
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

TEST(SwiGluReference, GradientEqualsTheComplexStep) {
  const std::vector<double> in = RandomValues(3 * 2 * 5, "in", 2), dout = RandomValues(15, "dout");
  std::vector<double> din(in.size());
  reference::SwiGluBackward(3, 5, in.data(), dout.data(), din.data());
  const auto truth = testing::ComplexStepGradient(in, [&](const auto& z) {
    std::vector<testing::Complex> out(dout.size());
    reference::SwiGluForward<testing::Complex>(3, 5, z.data(), out.data());
    return testing::Weighted(out, dout);
  });
  EXPECT_TRUE(AllNear(din, truth, {.absolute = 1e-14, .relative = 1e-13}));
}

// torch.nn.functional.silu(1.0) in float64, times up = 2.
TEST(SwiGluReference, EqualsAPublishedValue) {
  const double in[2] = {1, 2};
  double out = 0;
  reference::SwiGluForward(1, 1, in, &out);
  EXPECT_NEAR(out, 2 * 0.7310585786300049, 1e-15);
}

TEST(SwiGlu, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [R, F] : testing::kRowSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", 2 * " << F << "]");
        // Near gate = -1.28 the slope of silu is a difference of near numbers: exact to a unit of its terms, times dout up.
        const testing::Tolerance tolerance =
            testing::StoredTolerance(dtype, {.absolute = 1e-6, .relative = 2e-6}, {.absolute = 2e-14, .relative = 1e-14});
        const auto x = RoundTo(dtype, RandomValues(R * 2 * F, "x", 3)), g = RoundTo(dtype, RandomValues(R * F, "g"));
        std::vector<double> expected(g.size()), expected_din(x.size());
        reference::SwiGluForward(R, F, x.data(), expected.data());
        reference::SwiGluBackward(R, F, x.data(), g.data(), expected_din.data());
        const TestTensor in(dtype, {R, 2 * F}, x), dout(dtype, {R, F}, g);
        TestTensor out(dtype, {R, F}), din(dtype, {R, 2 * F}), in_place(dtype, {R, 2 * F}, x);
        SwiGluForward(*stream, {.in = in, .out = out});
        SwiGluBackward(*stream, {.in = in, .dout = dout, .din = din});
        SwiGluBackward(*stream, {.in = in_place, .dout = dout, .din = in_place});
        EXPECT_TRUE(AllNear(out.values(), expected, tolerance, {R, F}));
        EXPECT_TRUE(AllNear(din.values(), expected_din, tolerance, {R, 2 * F}));
        EXPECT_EQ(in_place.values(), din.values());
      }
    }
  });
}

// Every finite bf16 as a gate, up and dout 1: silu(x) = x s, its slope s + x s (1 - s), s = 1 / (1 + exp(-x)), in long double.
TEST(SwiGlu, IsRightForEveryFiniteGate) {
  CpuStream stream;
  std::vector<double> gates, expected, expected_slope;
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    const long double x = std::bit_cast<float>(code << 16), h = std::exp(-std::abs(x)), s = x < 0 ? h / (1 + h) : 1 / (1 + h);
    if (!std::isfinite(x)) continue;
    gates.push_back(static_cast<double>(x));
    expected.push_back(static_cast<double>(x * s));
    expected_slope.push_back(static_cast<double>(s + x * (h / ((1 + h) * (1 + h)))));
  }
  const auto F = static_cast<std::int64_t>(gates.size());
  std::vector<double> row = gates;
  row.resize(2 * gates.size(), 1.0);
  for (const DType dtype : testing::kStoredDTypes) {
    const testing::Tolerance tolerance =
        testing::StoredTolerance(dtype, {.absolute = 1e-7, .relative = 1e-6}, {.absolute = 2e-15, .relative = 1e-15});
    const TestTensor in(dtype, {1, 2 * F}, row), ones(dtype, {1, F}, std::vector<double>(gates.size(), 1.0));
    testing::ForEveryIsa([&] {
      TestTensor out(dtype, {1, F}), din(dtype, {1, 2 * F});
      SwiGluForward(*stream, {.in = in, .out = out});
      SwiGluBackward(*stream, {.in = in, .dout = ones, .din = din});
      const std::vector<double> d = din.values();
      EXPECT_TRUE(AllNear(out.values(), expected, tolerance)) << Name(dtype);
      EXPECT_TRUE(AllNear({d.begin(), d.begin() + F}, expected_slope, tolerance)) << Name(dtype) << " gate's";
      EXPECT_TRUE(AllNear({d.begin() + F, d.end()}, expected, tolerance)) << Name(dtype) << " up's";
    });
  }
}

TEST(SwiGlu, LargeGatesDoNotOverflowAndNotANumberPropagates) {
  CpuStream stream;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      const TestTensor in(dtype, {1, 10}, {-1e4, 1e4, nan, infinity, 1, 1, 1, 1, 1, nan});
      TestTensor out(dtype, {1, 5});
      SwiGluForward(*stream, {.in = in, .out = out});
      const auto y = out.values();
      EXPECT_NEAR(y[0], 0, 1e-30);
      EXPECT_NEAR(y[1], 1e4, 20);  // bf16 rounds it
      EXPECT_TRUE(std::isnan(y[2]));
      EXPECT_EQ(y[3], infinity);
      EXPECT_TRUE(std::isnan(y[4]));
    }
  });
}

}  // namespace
}  // namespace lycia
