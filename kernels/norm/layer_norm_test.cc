#include "kernels/norm/layer_norm.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/norm/layer_norm_ref.h"
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

struct Case {
  std::int64_t R, C;
  std::vector<double> in, gamma, beta, dout, out, mean, rstd, din, dgamma, dbeta;

  // Expected values in f64; dgamma and dbeta start from `before`.
  Case(DType dtype, std::int64_t rows, std::int64_t features, double before)
      : R(rows),
        C(features),
        in(RoundTo(dtype, RandomValues(R * C, "in", 2))),
        gamma(RoundTo(dtype, RandomValues(C, "gamma"))),
        beta(RoundTo(dtype, RandomValues(C, "beta"))),
        dout(RoundTo(dtype, RandomValues(R * C, "dout"))),
        out(in.size()),
        mean(static_cast<std::size_t>(R)),
        rstd(mean.size()),
        din(in.size()),
        dgamma(gamma.size(), before),
        dbeta(gamma.size(), before) {
    reference::LayerNormForward(R, C, in.data(), gamma.data(), beta.data(), kEps, out.data(), mean.data(), rstd.data());
    reference::LayerNormBackwardInput(R, C, dout.data(), in.data(), gamma.data(), mean.data(), rstd.data(), din.data());
    reference::LayerNormBackwardWeight(R, C, dout.data(), in.data(), mean.data(), rstd.data(), dgamma.data(), dbeta.data());
  }
};

TEST(LayerNormReference, GradientsEqualTheComplexStep) {
  const Case c(DType::kF64, 3, 5, 0);
  const auto loss = [&](const std::vector<Complex>& in, const std::vector<Complex>& gamma, const std::vector<Complex>& beta) {
    std::vector<Complex> out(in.size()), mean(3), rstd(3);
    reference::LayerNormForward<Complex>(3, 5, in.data(), gamma.data(), beta.data(), kEps, out.data(), mean.data(), rstd.data());
    return testing::Weighted(out, c.dout);
  };
  const auto in = testing::ToComplex(c.in), gamma = testing::ToComplex(c.gamma), beta = testing::ToComplex(c.beta);
  EXPECT_TRUE(
      AllNear(c.din, testing::ComplexStepGradient(c.in, [&](const auto& x) { return loss(x, gamma, beta); }), {.of_largest = 1e-13}));
  EXPECT_TRUE(
      AllNear(c.dgamma, testing::ComplexStepGradient(c.gamma, [&](const auto& x) { return loss(in, x, beta); }), {.of_largest = 1e-13}));
  EXPECT_TRUE(
      AllNear(c.dbeta, testing::ComplexStepGradient(c.beta, [&](const auto& x) { return loss(in, gamma, x); }), {.of_largest = 1e-13}));
}

TEST(LayerNorm, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [R, C] : testing::kRowSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", " << C << "]");
        const DType sums = ArithmeticDType(dtype);  // of statistics and of gradients of parameters
        // A feature alone has no variance; two may have little: 1/rstd² then loses half the digits.
        const double unit = (sums == DType::kF32 ? 2e-6 : 4e-15) * (C <= 2 ? 100 : 1);
        const testing::Tolerance tolerance{.absolute = unit, .of_largest = unit}, scaled{.absolute = unit, .of_largest = 4 * unit};
        const testing::Tolerance stored = testing::StoredTolerance(dtype, tolerance, tolerance),
                                 stored_scaled = testing::StoredTolerance(dtype, scaled, scaled);
        const Case c(dtype, R, C, 0.5);
        const TestTensor in(dtype, {R, C}, c.in), gamma(dtype, {C}, c.gamma), beta(dtype, {C}, c.beta), dout(dtype, {R, C}, c.dout);
        TestTensor out(dtype, {R, C}), mean(sums, {R}), rstd(sums, {R}), din(dtype, {R, C});
        LayerNormForward(*stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd, .eps = kEps});
        EXPECT_TRUE(AllNear(out.values(), c.out, stored, {R, C}));
        EXPECT_TRUE(AllNear(mean.values(), c.mean, tolerance));
        EXPECT_TRUE(AllNear(rstd.values(), c.rstd, tolerance));

        LayerNormBackwardInput(*stream, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = din});
        EXPECT_TRUE(AllNear(din.values(), c.din, stored_scaled, {R, C}));
        const auto once = din.values();
        LayerNormBackwardInput(*stream,
                               {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = din, .accumulate = true});
        std::vector<double> twice = c.din;
        for (std::size_t i = 0; i < twice.size(); ++i) twice[i] += once[i];
        EXPECT_TRUE(AllNear(din.values(), twice, stored_scaled, {R, C}));

        TestTensor dgamma(sums, {C}, std::vector<double>(static_cast<std::size_t>(C), 0.5)), dbeta(sums, {C}, dgamma.values());
        LayerNormBackwardWeight(*stream, {.dout = dout, .in = in, .mean = mean, .rstd = rstd, .dgamma = dgamma, .dbeta = dbeta});
        EXPECT_TRUE(AllNear(dgamma.values(), c.dgamma, scaled));
        EXPECT_TRUE(AllNear(dbeta.values(), c.dbeta, scaled));
      }
    }
  });
}

TEST(LayerNorm, WithTheResidualItIsTheSameBitsAsInTwoSteps) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const auto& [R, C] : testing::kRowSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", " << C << "]");
        const DType sums = ArithmeticDType(dtype);
        const Case c(dtype, R, C, 0);
        std::vector<double> added(c.in);
        for (std::size_t i = 0; i < added.size(); ++i) added[i] += c.dout[i];
        if (dtype == DType::kBF16) added = RoundTo(DType::kF32, added);
        added = RoundTo(dtype, added);
        const TestTensor in(dtype, {R, C}, c.in), residual(dtype, {R, C}, c.dout), whole(dtype, {R, C}, added);
        const TestTensor gamma(dtype, {C}, c.gamma), beta(dtype, {C}, c.beta);
        TestTensor sum(dtype, {R, C}), out(dtype, {R, C}), mean(sums, {R}), rstd(sums, {R});
        TestTensor expected(dtype, {R, C}), expected_mean(sums, {R}), expected_rstd(sums, {R}), in_place(dtype, {R, C}, c.dout);
        LayerNormForward(*stream,
                         {.in = whole, .gamma = gamma, .beta = beta, .out = expected, .mean = expected_mean, .rstd = expected_rstd});
        AddLayerNormForward(
            *stream, {.in = in, .residual = residual, .sum = sum, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
        EXPECT_EQ(sum.values(), added);
        EXPECT_EQ(out.values(), expected.values());
        EXPECT_EQ(mean.values(), expected_mean.values());
        EXPECT_EQ(rstd.values(), expected_rstd.values());
        AddLayerNormForward(
            *stream,
            {.in = in, .residual = in_place, .sum = in_place, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
        EXPECT_EQ(in_place.values(), added);
        EXPECT_EQ(out.values(), expected.values());
      }
    }
  });
}

// Rows are worked on by whoever has them: the same bits alone as among others.
TEST(LayerNorm, ARowDoesNotSeeItsNeighbours) {
  CpuStream stream;
  for (const DType dtype : testing::kStoredDTypes) {
    const DType sums = ArithmeticDType(dtype);
    const Case c(dtype, 5, 131, 0);
    const TestTensor gamma(dtype, {131}, c.gamma), beta(dtype, {131}, c.beta), in(dtype, {5, 131}, c.in);
    TestTensor out(dtype, {5, 131}), mean(sums, {5}), rstd(sums, {5}), alone(dtype, {1, 131}), one_mean(sums, {1}), one_rstd(sums, {1});
    LayerNormForward(*stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
    const std::vector<double> row(c.in.begin() + 3 * 131, c.in.begin() + 4 * 131);
    const TestTensor third(dtype, {1, 131}, row);
    LayerNormForward(*stream, {.in = third, .gamma = gamma, .beta = beta, .out = alone, .mean = one_mean, .rstd = one_rstd});
    const auto all = out.values();
    EXPECT_EQ(alone.values(), std::vector<double>(all.begin() + 3 * 131, all.begin() + 4 * 131));
  }
}

TEST(LayerNorm, NotANumberAndInfinityMakeTheirRowNotANumber) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        Case c(dtype, 2, 67, 0);
        c.in[66] = bad;  // in a vector that is partly filled
        const DType sums = ArithmeticDType(dtype);
        const TestTensor in(dtype, {2, 67}, c.in), gamma(dtype, {67}, c.gamma), beta(dtype, {67}, c.beta), dout(dtype, {2, 67}, c.dout);
        TestTensor out(dtype, {2, 67}), mean(sums, {2}), rstd(sums, {2}), din(dtype, {2, 67});
        LayerNormForward(*stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
        LayerNormBackwardInput(*stream, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = din});
        for (std::size_t i = 0; i < 134; ++i) {
          EXPECT_EQ(std::isnan(out.values()[i]), i < 67) << i;
          EXPECT_EQ(std::isnan(din.values()[i]), i < 67) << i;
        }
      }
    }
  });
}

TEST(LayerNorm, InPlaceIsTheSame) {
  CpuStream stream;
  const Case c(DType::kF32, 4, 33, 0);
  const TestTensor in(DType::kF32, {4, 33}, c.in), gamma(DType::kF32, {33}, c.gamma), beta(DType::kF32, {33}, c.beta);
  TestTensor out(DType::kF32, {4, 33}), moved(DType::kF32, {4, 33}, c.in), mean(DType::kF32, {4}), rstd(DType::kF32, {4});
  LayerNormForward(*stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
  LayerNormForward(*stream, {.in = moved, .gamma = gamma, .beta = beta, .out = moved, .mean = mean, .rstd = rstd});
  EXPECT_EQ(out.values(), moved.values());
  TestTensor din(DType::kF32, {4, 33}), gradient(DType::kF32, {4, 33}, c.dout);
  const TestTensor dout(DType::kF32, {4, 33}, c.dout);
  LayerNormBackwardInput(*stream, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = din});
  LayerNormBackwardInput(*stream, {.dout = gradient, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = gradient});
  EXPECT_EQ(din.values(), gradient.values());
}

// A large common offset must not eat the variance: that would happen with E[x²] - E[x]².
TEST(LayerNorm, SurvivesALargeMean) {
  CpuStream stream;
  std::vector<double> values = RandomValues(256, "in");
  for (double& v : values) v += 1000;
  values = RoundTo(DType::kF32, values);
  const std::vector<double> one(256, 1.0), zero(256, 0.0);
  const TestTensor in(DType::kF32, {1, 256}, values), gamma(DType::kF32, {256}, one), beta(DType::kF32, {256}, zero);
  TestTensor out(DType::kF32, {1, 256}), mean(DType::kF32, {1}), rstd(DType::kF32, {1});
  LayerNormForward(*stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
  std::vector<double> expected(256), m(1), r(1);
  reference::LayerNormForward(1, 256, values.data(), one.data(), zero.data(), kEps, expected.data(), m.data(), r.data());
  EXPECT_TRUE(AllNear(out.values(), expected, {.absolute = 2e-4}));
}

}  // namespace
}  // namespace lycia
