#include "kernels/activation/gelu.h"

#include <cmath>
#include <limits>

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

TEST(Gelu, LargeValuesDoNotOverflow) {
  CpuStream stream;
  const TestTensor in(DType::kF32, {4}, {-1e4, -60, 60, 1e4}), dout(DType::kF32, {4}, {1, 1, 1, 1});
  TestTensor out(DType::kF32, {4}), din(DType::kF32, {4});
  GeluForward(*stream, {.in = in, .out = out});
  GeluBackward(*stream, {.in = in, .dout = dout, .din = din});
  EXPECT_TRUE(AllNear(out.values(), {0, 0, 60, 1e4}, {.absolute = 1e-30}));
  EXPECT_TRUE(AllNear(din.values(), {0, 0, 1, 1}, {.absolute = 1e-20}));
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
