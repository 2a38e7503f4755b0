#include "kernels/norm/layer_norm.h"

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
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      for (const auto& [R, C] : testing::kRowSizes) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << R << ", " << C << "]");
        // A feature alone has no variance; two may have little: 1/rstd² then loses half the digits.
        const double unit = (dtype == DType::kF32 ? 2e-6 : 4e-15) * (C <= 2 ? 100 : 1);
        const testing::Tolerance tolerance{.absolute = unit, .of_largest = unit};
        const Case c(dtype, R, C, 0.5);
        const TestTensor in(dtype, {R, C}, c.in), gamma(dtype, {C}, c.gamma), beta(dtype, {C}, c.beta), dout(dtype, {R, C}, c.dout);
        TestTensor out(dtype, {R, C}), mean(dtype, {R}), rstd(dtype, {R}), din(dtype, {R, C});
        LayerNormForward(*stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd, .eps = kEps});
        EXPECT_TRUE(AllNear(out.values(), c.out, tolerance, {R, C}));
        EXPECT_TRUE(AllNear(mean.values(), c.mean, tolerance));
        EXPECT_TRUE(AllNear(rstd.values(), c.rstd, tolerance));

        LayerNormBackwardInput(*stream, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = din});
        const testing::Tolerance scaled{.absolute = unit, .of_largest = 4 * unit};
        EXPECT_TRUE(AllNear(din.values(), c.din, scaled, {R, C}));
        LayerNormBackwardInput(*stream,
                               {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = din, .accumulate = true});
        std::vector<double> twice = c.din;
        for (double& x : twice) x *= 2;
        EXPECT_TRUE(AllNear(din.values(), twice, scaled, {R, C}));

        TestTensor dgamma(dtype, {C}, std::vector<double>(static_cast<std::size_t>(C), 0.5)), dbeta(dtype, {C}, dgamma.values());
        LayerNormBackwardWeight(*stream, {.dout = dout, .in = in, .mean = mean, .rstd = rstd, .dgamma = dgamma, .dbeta = dbeta});
        EXPECT_TRUE(AllNear(dgamma.values(), c.dgamma, scaled));
        EXPECT_TRUE(AllNear(dbeta.values(), c.dbeta, scaled));
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
