#include "kernels/norm/batch_norm.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/norm/batch_norm_ref.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/complex_step.h"
#include "kernels/testing/every_isa.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::Complex;
using testing::CpuStream;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

struct Size {
  std::int64_t groups, samples, pixels, C;
};
const Size kSizes[] = {{1, 1, 2, 1}, {2, 3, 4, 3}, {1, 2, 9, 16}, {3, 1, 70, 65}, {2, 2, 700, 5}, {1, 8, 25, 130}};

// The images of one case, and everything that the specification makes of them.
struct Case {
  Case(DType dtype, const Size& size, bool rest, double offset = 0) : s(size), R(size.samples * size.pixels) {
    const std::int64_t all = s.groups * R * s.C;
    in = RandomValues(all, "in");
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = in[i] * 0.5 + offset;
    in = RoundTo(dtype, in);
    gamma = RoundTo(dtype, RandomValues(s.C, "gamma"));
    beta = RoundTo(dtype, RandomValues(s.C, "beta"));
    residual = RoundTo(dtype, RandomValues(all, "residual"));
    dout = RoundTo(dtype, RandomValues(all, "dout"));
    out.resize(in.size());
    mean.resize(static_cast<std::size_t>(s.groups * s.C));
    variance = rstd = sum_d = sum_dn = mean;
    for (std::int64_t g = 0; g < s.groups; ++g) {
      const std::int64_t at = g * R * s.C, c = g * s.C;
      reference::BatchNormStatistics(R, s.C, in.data() + at, kEps, mean.data() + c, variance.data() + c, rstd.data() + c);
      reference::BatchNormApply(R, s.C, in.data() + at, mean.data() + c, rstd.data() + c, gamma.data(), beta.data(),
                                rest ? residual.data() + at : nullptr, out.data() + at);
    }
    if (rest) {
      for (double& x : out) x = x < 0 ? 0 : x;
    }
  }
  // d, sums and din of this out, as the kernels left it (rounded, so that the ReLU's mask is theirs).
  void Backward(const std::vector<double>& relu_out) {
    d = dout;
    for (std::size_t i = 0; i < relu_out.size(); ++i) d[i] = relu_out[i] <= 0 ? 0 : d[i];
    din.resize(d.size());
    for (std::int64_t g = 0; g < s.groups; ++g) {
      const std::int64_t at = g * R * s.C, c = g * s.C;
      reference::BatchNormBackwardSums(R, s.C, d.data() + at, in.data() + at, mean.data() + c, rstd.data() + c, sum_d.data() + c,
                                       sum_dn.data() + c);
      reference::BatchNormBackwardInput(R, s.C, d.data() + at, in.data() + at, gamma.data(), mean.data() + c, rstd.data() + c,
                                        sum_d.data() + c, sum_dn.data() + c, din.data() + at);
    }
  }
  Shape images() const { return {s.groups * s.samples, s.pixels, s.C}; }
  Shape statistics() const { return {s.groups, s.C}; }

  static constexpr double kEps = 1e-5;
  Size s;
  std::int64_t R;
  std::vector<double> in, gamma, beta, residual, dout, out, mean, variance, rstd, sum_d, sum_dn, d, din;
};

testing::Tolerance Near(DType dtype) { return testing::StoredTolerance(dtype, {.of_largest = 4e-6}, {.of_largest = 1e-13}); }
// Of statistics and sums, which are f32 beside bf16.
testing::Tolerance NearSum(DType dtype) { return {.of_largest = dtype == DType::kF64 ? 1e-12 : 1e-5}; }

// What one run of all kernels leaves.
struct Result {
  std::vector<double> out, mean, variance, rstd, sum_d, sum_dn, din, dresidual, dgamma, dbeta;
  bool operator==(const Result&) const = default;
};
Result RunAll(Stream& stream, DType dtype, const Case& c, bool rest) {
  const DType sums = ArithmeticDType(dtype);
  const TestTensor in(dtype, c.images(), c.in), gamma(dtype, {c.s.C}, c.gamma), beta(dtype, {c.s.C}, c.beta);
  const TestTensor residual(dtype, c.images(), c.residual), dout(dtype, c.images(), c.dout);
  TestTensor out(dtype, c.images()), din(dtype, c.images()), dresidual(dtype, c.images());
  TestTensor mean(sums, c.statistics()), rstd(sums, c.statistics()), variance(sums, c.statistics());
  TestTensor sum_d(sums, c.statistics()), sum_dn(sums, c.statistics());
  const std::vector<double> ones(static_cast<std::size_t>(c.s.C), 1.0);
  TestTensor dgamma(sums, {c.s.C}, ones), dbeta(sums, {c.s.C}, ones);
  BatchNormForward(stream, {.in = in,
                            .gamma = gamma,
                            .beta = beta,
                            .samples = c.s.samples,
                            .residual = rest ? ConstTensor(residual) : ConstTensor(),
                            .relu = rest,
                            .out = out,
                            .mean = mean,
                            .rstd = rstd,
                            .variance = variance,
                            .eps = Case::kEps});
  const ConstTensor relu_out = rest ? ConstTensor(out) : ConstTensor();
  BatchNormBackwardSums(stream,
                        {.dout = dout, .in = in, .mean = mean, .rstd = rstd, .relu_out = relu_out, .sum_d = sum_d, .sum_dn = sum_dn});
  BatchNormBackwardInput(stream, {.dout = dout,
                                  .in = in,
                                  .gamma = gamma,
                                  .mean = mean,
                                  .rstd = rstd,
                                  .relu_out = relu_out,
                                  .sum_d = sum_d,
                                  .sum_dn = sum_dn,
                                  .din = din,
                                  .dresidual = dresidual});
  BatchNormBackwardWeight(stream, {.sum_d = sum_d, .sum_dn = sum_dn, .dgamma = dgamma, .dbeta = dbeta});
  return {out.values(),    mean.values(), variance.values(),  rstd.values(),   sum_d.values(),
          sum_dn.values(), din.values(),  dresidual.values(), dgamma.values(), dbeta.values()};
}

TEST(BatchNorm, EqualsTheReference) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const Size& size : kSizes) {
        for (const bool rest : {false, true}) {
          SCOPED_TRACE(::testing::Message() << Name(dtype) << " groups " << size.groups << " samples " << size.samples << " pixels "
                                            << size.pixels << " C " << size.C << (rest ? " residual and relu" : ""));
          Case c(dtype, size, rest);
          const Result r = RunAll(*stream, dtype, c, rest);
          c.Backward(rest ? r.out : std::vector<double>());
          EXPECT_TRUE(AllNear(r.mean, c.mean, NearSum(dtype)));
          EXPECT_TRUE(AllNear(r.variance, c.variance, NearSum(dtype)));
          EXPECT_TRUE(AllNear(r.rstd, c.rstd, NearSum(dtype)));
          EXPECT_TRUE(AllNear(r.out, c.out, Near(dtype), c.images()));
          EXPECT_TRUE(AllNear(r.sum_d, c.sum_d, NearSum(dtype)));
          EXPECT_TRUE(AllNear(r.sum_dn, c.sum_dn, NearSum(dtype)));
          // Of two rows the true gradient nearly vanishes: what remains is measured against its terms.
          testing::Tolerance near = Near(dtype);
          near.absolute = (dtype == DType::kF64 ? 1e-13 : 1e-5) * *std::max_element(c.rstd.begin(), c.rstd.end());
          EXPECT_TRUE(AllNear(r.din, c.din, near, c.images()));
          EXPECT_EQ(r.dresidual, c.d);
          std::vector<double> dgamma(static_cast<std::size_t>(size.C), 1.0), dbeta = dgamma;
          for (std::size_t i = 0; i < c.sum_d.size(); ++i) {
            dgamma[i % dgamma.size()] += c.sum_dn[i];
            dbeta[i % dbeta.size()] += c.sum_d[i];
          }
          EXPECT_TRUE(AllNear(r.dgamma, dgamma, NearSum(dtype)));
          EXPECT_TRUE(AllNear(r.dbeta, dbeta, NearSum(dtype)));
        }
      }
    }
  });
}

TEST(BatchNorm, SameBitsForAnyThreads) {
  for (const DType dtype : testing::kStoredDTypes) {
    const Case c(dtype, {2, 4, 700, 70}, true);
    const Result one = RunAll(*CpuStream(), dtype, c, true);
    for (const int threads : {2, 3}) EXPECT_EQ(RunAll(*CpuStream({.threads = threads}), dtype, c, true), one) << threads << " threads";
  }
}

// out over in or residual, din or dresidual over dout, and a gradient that is added.
TEST(BatchNorm, MayWriteOverWhatItReadsAndAddGradients) {
  const CpuStream stream({.threads = 2});
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      SCOPED_TRACE(Name(dtype));
      const Size size = {2, 3, 90, 37};
      Case c(dtype, size, true);
      const Result r = RunAll(*stream, dtype, c, true);
      c.Backward(r.out);
      const DType sums = ArithmeticDType(dtype);
      const auto images = [&](const std::vector<double>& values) { return TestTensor(dtype, c.images(), values); };
      const auto statistic = [&](const std::vector<double>& values) { return TestTensor(sums, c.statistics(), values); };
      const TestTensor in = images(c.in), residual = images(c.residual), dout = images(c.dout), relu_out = images(r.out);
      const TestTensor gamma(dtype, {size.C}, c.gamma), beta(dtype, {size.C}, c.beta);
      const TestTensor mean = statistic(r.mean), rstd = statistic(r.rstd), variance = statistic(r.variance);
      const TestTensor sum_d = statistic(r.sum_d), sum_dn = statistic(r.sum_dn);

      const TestTensor over_in = images(c.in), over_residual = images(c.residual), new_mean(sums, c.statistics()),
                       new_rstd(sums, c.statistics());
      BatchNormForwardArgs forward = {.in = over_in,
                                      .gamma = gamma,
                                      .beta = beta,
                                      .samples = size.samples,
                                      .residual = residual,
                                      .relu = true,
                                      .out = over_in,
                                      .mean = new_mean,
                                      .rstd = new_rstd,
                                      .eps = Case::kEps};
      BatchNormForward(*stream, forward);
      EXPECT_EQ(over_in.values(), r.out);
      forward.in = in.tensor();
      forward.residual = forward.out = over_residual.tensor();
      BatchNormForward(*stream, forward);
      EXPECT_EQ(over_residual.values(), r.out);

      // In evaluation there is one group: the first one's statistics serve all rows.
      const TestTensor all(dtype, c.images()), evaluated_in = images(c.in), evaluated_residual = images(c.residual);
      BatchNormEvaluateArgs evaluate = {.in = in,
                                        .gamma = gamma,
                                        .beta = beta,
                                        .mean = {mean.tensor().data, sums, {size.C}},
                                        .variance = {variance.tensor().data, sums, {size.C}},
                                        .residual = residual,
                                        .relu = true,
                                        .out = all};
      BatchNormEvaluate(*stream, evaluate);
      evaluate.in = evaluate.out = evaluated_in.tensor();
      BatchNormEvaluate(*stream, evaluate);
      EXPECT_EQ(evaluated_in.values(), all.values());
      evaluate.in = in.tensor();
      evaluate.residual = evaluate.out = evaluated_residual.tensor();
      BatchNormEvaluate(*stream, evaluate);
      EXPECT_EQ(evaluated_residual.values(), all.values());

      BatchNormBackwardInputArgs backward = {
          .dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .relu_out = relu_out, .sum_d = sum_d, .sum_dn = sum_dn};
      const TestTensor din_over_dout = images(c.dout), dresidual(dtype, c.images());
      backward.dout = backward.din = din_over_dout.tensor();
      backward.dresidual = dresidual.tensor();
      BatchNormBackwardInput(*stream, backward);
      EXPECT_EQ(din_over_dout.values(), r.din);
      EXPECT_EQ(dresidual.values(), r.dresidual);

      const TestTensor dresidual_over_dout = images(c.dout), din(dtype, c.images());
      backward.dout = backward.dresidual = dresidual_over_dout.tensor();
      backward.din = din.tensor();
      BatchNormBackwardInput(*stream, backward);
      EXPECT_EQ(din.values(), r.din);
      EXPECT_EQ(dresidual_over_dout.values(), r.dresidual);

      const auto before = RoundTo(dtype, RandomValues(c.images().elements(), "before"));
      const TestTensor added = images(before);
      backward.dout = dout.tensor();
      backward.dresidual = Tensor();
      backward.din = added.tensor();
      backward.accumulate = true;
      BatchNormBackwardInput(*stream, backward);
      std::vector<double> expected = c.din;
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
      EXPECT_TRUE(AllNear(added.values(), expected, Near(dtype), c.images()));
    }
  });
}

// Sums of squares less squares of sums would lose every digit here.
TEST(BatchNorm, VarianceSurvivesALargeMean) {
  CpuStream stream;
  const Case c(DType::kF32, {1, 4, 2000, 3}, false, 3000.0);
  const Result r = RunAll(*stream, DType::kF32, c, false);
  EXPECT_TRUE(AllNear(r.variance, c.variance, {.relative = 2e-3}));
}

TEST(BatchNorm, EvaluationFoldingAndRunningStatistics) {
  CpuStream stream;
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      const DType sums = ArithmeticDType(dtype);
      const Case c(dtype, {3, 1, 7, 19}, true);
      const TestTensor mean(sums, {3, 19}, c.mean), variance(sums, {3, 19}, c.variance);
      std::vector<double> running_mean(19, 0.25), running_variance(19, 1.5);
      TestTensor tmean(sums, {19}, running_mean), tvariance(sums, {19}, running_variance);
      BatchNormUpdateRunning(
          *stream, {.mean = mean, .variance = variance, .rows = 7, .momentum = 0.3, .running_mean = tmean, .running_variance = tvariance});
      for (std::size_t i = 0; i < 3 * 19; ++i) {
        running_mean[i % 19] = 0.7 * running_mean[i % 19] + 0.3 * c.mean[i];
        running_variance[i % 19] = 0.7 * running_variance[i % 19] + 0.3 * c.variance[i] * 7 / 6;
      }
      EXPECT_TRUE(AllNear(tmean.values(), running_mean, NearSum(dtype)));
      EXPECT_TRUE(AllNear(tvariance.values(), running_variance, NearSum(dtype)));

      const TestTensor in(dtype, c.images(), c.in), gamma(dtype, {19}, c.gamma), beta(dtype, {19}, c.beta);
      const TestTensor residual(dtype, c.images(), c.residual);
      TestTensor out(dtype, c.images()), scale(sums, {19}), bias(sums, {19});
      BatchNormEvaluate(
          *stream,
          {.in = in, .gamma = gamma, .beta = beta, .mean = tmean, .variance = tvariance, .residual = residual, .relu = true, .out = out});
      BatchNormFold(*stream, {.gamma = gamma, .beta = beta, .mean = tmean, .variance = tvariance, .scale = scale, .bias = bias});
      std::vector<double> rstd(19), expected(c.in.size()), folded(c.in.size());
      for (std::size_t i = 0; i < 19; ++i) rstd[i] = 1 / std::sqrt(running_variance[i] + 1e-5);
      reference::BatchNormApply<double>(21, 19, c.in.data(), running_mean.data(), rstd.data(), c.gamma.data(), c.beta.data(),
                                        c.residual.data(), expected.data());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        folded[i] = c.in[i] * scale.values()[i % 19] + bias.values()[i % 19] + c.residual[i];
        expected[i] = expected[i] < 0 ? 0 : expected[i];
        folded[i] = folded[i] < 0 ? 0 : folded[i];
      }
      EXPECT_TRUE(AllNear(out.values(), expected, Near(dtype)));
      EXPECT_TRUE(AllNear(folded, expected, NearSum(dtype)));
    }
  });
}

TEST(BatchNorm, ANanReachesItsChannelAndGroupOnly) {
  CpuStream stream;
  Case c(DType::kF32, {2, 1, 5, 18}, true);
  c.in[3] = std::nan("");
  const Result r = RunAll(*stream, DType::kF32, c, true);
  for (std::size_t i = 0; i < r.out.size(); ++i) EXPECT_EQ(std::isnan(r.out[i]), i / 90 == 0 && i % 18 == 3) << i;
}

// The specification's gradients, by the complex step.
TEST(BatchNormReference, GradientsAreTheDerivatives) {
  constexpr std::int64_t R = 5, C = 3;
  const auto in = RandomValues(R * C, "in"), gamma = RandomValues(C, "gamma"), beta = RandomValues(C, "beta"),
             dout = RandomValues(R * C, "dout");
  const auto loss = [&](const std::vector<Complex>& x, const std::vector<Complex>& g, const std::vector<Complex>& b) {
    std::vector<Complex> mean(C), variance(C), rstd(C), out(R * C);
    reference::BatchNormStatistics(R, C, x.data(), 1e-5, mean.data(), variance.data(), rstd.data());
    reference::BatchNormApply<Complex>(R, C, x.data(), mean.data(), rstd.data(), g.data(), b.data(), nullptr, out.data());
    return testing::Weighted(out, dout);
  };
  std::vector<double> mean(C), variance(C), rstd(C), sum_d(C), sum_dn(C), din(R * C);
  reference::BatchNormStatistics(R, C, in.data(), 1e-5, mean.data(), variance.data(), rstd.data());
  reference::BatchNormBackwardSums(R, C, dout.data(), in.data(), mean.data(), rstd.data(), sum_d.data(), sum_dn.data());
  reference::BatchNormBackwardInput(R, C, dout.data(), in.data(), gamma.data(), mean.data(), rstd.data(), sum_d.data(), sum_dn.data(),
                                    din.data());
  const auto x = testing::ToComplex(in), g = testing::ToComplex(gamma), b = testing::ToComplex(beta);
  EXPECT_TRUE(AllNear(din, testing::ComplexStepGradient(in, [&](const auto& moved) { return loss(moved, g, b); }), {.of_largest = 1e-12}));
  EXPECT_TRUE(
      AllNear(sum_dn, testing::ComplexStepGradient(gamma, [&](const auto& moved) { return loss(x, moved, b); }), {.of_largest = 1e-12}));
  EXPECT_TRUE(
      AllNear(sum_d, testing::ComplexStepGradient(beta, [&](const auto& moved) { return loss(x, g, moved); }), {.of_largest = 1e-12}));
}

}  // namespace
}  // namespace lycia
