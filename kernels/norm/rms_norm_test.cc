#include "kernels/norm/rms_norm.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/norm/rms_norm_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/complex_step.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::Complex;
using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

constexpr double kEps = 1e-5;

TEST(RmsNormReference, GradientsEqualTheComplexStep) {
  constexpr std::int64_t R = 3, C = 5;
  const auto in = RandomValues(R * C, "in"), gamma = RandomValues(C, "gamma"), dout = RandomValues(R * C, "dout");
  std::vector<double> out(in.size()), rstd(R), din(in.size()), dgamma(gamma.size());
  reference::RmsNormForward(R, C, in.data(), gamma.data(), kEps, out.data(), rstd.data());
  reference::RmsNormBackwardInput(R, C, dout.data(), in.data(), gamma.data(), rstd.data(), din.data());
  reference::RmsNormBackwardWeight(R, C, dout.data(), in.data(), rstd.data(), dgamma.data());
  const auto loss = [&](const std::vector<Complex>& x, const std::vector<Complex>& g) {
    std::vector<Complex> y(x.size()), r(R);
    reference::RmsNormForward<Complex>(R, C, x.data(), g.data(), kEps, y.data(), r.data());
    return testing::Weighted(y, dout);
  };
  const auto cin = testing::ToComplex(in), cgamma = testing::ToComplex(gamma);
  EXPECT_TRUE(AllNear(din, testing::ComplexStepGradient(in, [&](const auto& x) { return loss(x, cgamma); }), {.of_largest = 1e-13}));
  EXPECT_TRUE(AllNear(dgamma, testing::ComplexStepGradient(gamma, [&](const auto& x) { return loss(cin, x); }), {.of_largest = 1e-13}));
}

TEST(RmsNorm, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [R, C] : testing::kRowSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", " << C << "]");
        const DType sums = ArithmeticDType(dtype);
        const auto x = RoundTo(dtype, RandomValues(R * C, "in", 2)), g = RoundTo(dtype, RandomValues(C, "gamma"));
        const auto dy = RoundTo(dtype, RandomValues(R * C, "dout"));
        std::vector<double> y(x.size()), r(static_cast<std::size_t>(R)), dx(x.size()), dg(g.size(), 0.5);
        reference::RmsNormForward(R, C, x.data(), g.data(), kEps, y.data(), r.data());
        reference::RmsNormBackwardInput(R, C, dy.data(), x.data(), g.data(), r.data(), dx.data());
        reference::RmsNormBackwardWeight(R, C, dy.data(), x.data(), r.data(), dg.data());

        // One feature: din nearly cancels, and is as small as eps / in².
        const double unit = sums == DType::kF32 ? 2e-6 : 4e-15;
        const testing::Tolerance near{.absolute = unit, .of_largest = 4 * unit}, stored = testing::StoredTolerance(dtype, near, near);
        const TestTensor in(dtype, {R, C}, x), gamma(dtype, {C}, g), dout(dtype, {R, C}, dy);
        TestTensor out(dtype, {R, C}), rstd(sums, {R}), din(dtype, {R, C}), dgamma(sums, {C}, std::vector<double>(g.size(), 0.5));
        RmsNormForward(*stream, {.in = in, .gamma = gamma, .out = out, .rstd = rstd, .eps = kEps});
        EXPECT_TRUE(AllNear(out.values(), y, stored, {R, C}));
        EXPECT_TRUE(AllNear(rstd.values(), r, near));
        RmsNormBackwardInput(*stream, {.dout = dout, .in = in, .gamma = gamma, .rstd = rstd, .din = din});
        EXPECT_TRUE(AllNear(din.values(), dx, stored, {R, C}));
        const auto once = din.values();
        RmsNormBackwardInput(*stream, {.dout = dout, .in = in, .gamma = gamma, .rstd = rstd, .din = din, .accumulate = true});
        for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += once[i];
        EXPECT_TRUE(AllNear(din.values(), dx, stored, {R, C}));
        RmsNormBackwardWeight(*stream, {.dout = dout, .in = in, .rstd = rstd, .dgamma = dgamma});
        EXPECT_TRUE(AllNear(dgamma.values(), dg, near));
      }
    }
  });
}

TEST(RmsNorm, WithTheResidualAndInPlaceItIsTheSameBits) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [R, C] : testing::kRowSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", " << C << "]");
        const DType sums = ArithmeticDType(dtype);
        const auto x = RoundTo(dtype, RandomValues(R * C, "in")), y = RoundTo(dtype, RandomValues(R * C, "residual"));
        std::vector<double> added(x);
        for (std::size_t i = 0; i < added.size(); ++i) added[i] += y[i];
        if (dtype == DType::kBF16) added = RoundTo(DType::kF32, added);
        added = RoundTo(dtype, added);
        const TestTensor in(dtype, {R, C}, x), gamma(dtype, {C}, RandomValues(C, "gamma"));
        TestTensor whole(dtype, {R, C}, added), residual(dtype, {R, C}, y), out(dtype, {R, C}), rstd(sums, {R}), expected_rstd(sums, {R});
        RmsNormForward(*stream, {.in = whole, .gamma = gamma, .out = whole, .rstd = expected_rstd});
        AddRmsNormForward(*stream, {.in = in, .residual = residual, .sum = residual, .gamma = gamma, .out = out, .rstd = rstd});
        EXPECT_EQ(residual.values(), added);
        EXPECT_EQ(out.values(), whole.values());
        EXPECT_EQ(rstd.values(), expected_rstd.values());
      }
    }
  });
}

TEST(RmsNorm, NotANumberAndInfinityShowInTheirRowOnly) {
  CpuStream stream;
  for (const DType dtype : testing::kStoredDTypes) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      std::vector<double> x = RandomValues(2 * 67, "x");
      x[66] = bad;
      const TestTensor in(dtype, {2, 67}, x), gamma(dtype, {67}, RandomValues(67, "gamma"));
      TestTensor out(dtype, {2, 67}), rstd(ArithmeticDType(dtype), {2});
      RmsNormForward(*stream, {.in = in, .gamma = gamma, .out = out, .rstd = rstd});
      EXPECT_TRUE(std::isnan(out.values()[66]));
      for (std::size_t i = 67; i < 134; ++i) EXPECT_TRUE(std::isfinite(out.values()[i]));
    }
  }
}

}  // namespace
}  // namespace lycia
