// Batch norm, pools and the bytes of images against their specifications in f64.
#include <cmath>
#include <cstdint>

#include "kernels/image/normalize.h"
#include "kernels/norm/batch_norm.h"
#include "kernels/norm/batch_norm_ref.h"
#include "kernels/pool/pool.h"
#include "kernels/pool/pool_ref.h"
#include "runtime/core/philox.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

using ImageTest = KernelFixture;

constexpr double kEps = 1e-3;
struct Size {
  std::int64_t groups, samples, pixels, C;
};
constexpr Size kSizes[] = {{1, 1, 2, 1}, {2, 3, 4, 3}, {1, 2, 9, 16}, {3, 1, 70, 65}, {2, 2, 700, 8}, {1, 8, 25, 136}, {5, 1, 1, 24}};

TEST_P(ImageTest, BatchNorm) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto& [G, samples, pixels, C] : kSizes) {
      for (const bool rest : {false, true}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << G << " groups of " << samples << " x " << pixels << " x " << C
                                          << (rest ? " relu" : ""));
        const std::int64_t R = samples * pixels, all = G * R * C;
        Values x = Random(all, "x", dtype, 0.5);
        for (double& v : x) v += 2;  // a mean of four deviations
        x = testing::RoundTo(dtype, x);
        const Values gamma = Random(C, "gamma", dtype), beta = Random(C, "beta", dtype), residual = Random(all, "residual", dtype),
                     dy = Random(all, "dy", dtype), before = Random(all, "before", dtype);
        Values mean(static_cast<std::size_t>(G * C)), variance = mean, rstd = mean, y(x.size());
        for (std::int64_t g = 0; g < G; ++g) {
          const std::int64_t at = g * R * C, c = g * C;
          reference::BatchNormStatistics(R, C, x.data() + at, kEps, mean.data() + c, variance.data() + c, rstd.data() + c);
          reference::BatchNormApply(R, C, x.data() + at, mean.data() + c, rstd.data() + c, gamma.data(), beta.data(),
                                    rest ? residual.data() + at : nullptr, y.data() + at);
        }
        if (rest) {
          for (double& v : y) v = v < 0 ? 0 : v;
        }
        const Shape images{G * samples, pixels, C}, statistics{G, C};
        const Tensor in = Put(x, dtype, images), out = Poisoned(dtype, images), weight = Put(gamma, dtype, {C}),
                     bias = Put(beta, dtype, {C});
        const Tensor m = Poisoned(wide, statistics), v = Poisoned(wide, statistics), s = Poisoned(wide, statistics);
        BatchNormForwardArgs args{.in = in,
                                  .gamma = weight,
                                  .beta = bias,
                                  .samples = samples,
                                  .relu = rest,
                                  .out = out,
                                  .mean = m,
                                  .rstd = s,
                                  .variance = v,
                                  .eps = kEps};
        if (rest) args.residual = Put(residual, dtype, images);
        BatchNormForward(*stream_, args);
        const testing::Tolerance near{.absolute = 1e-5, .of_largest = 2e-6};
        ExpectNear("mean", m, mean, {.relative = 4e-6});
        ExpectNear("variance", v, variance, {.absolute = 1e-7, .relative = 4e-6});
        ExpectNear("rstd", s, rstd, {.relative = 4e-6});
        ExpectNear("out", out, y, near);

        // d of the ReLU's mask as the kernel left it.
        Values d = dy;
        const Values kept = Get(out);
        for (std::size_t i = 0; i < d.size(); ++i) d[i] = rest && kept[i] <= 0 ? 0 : d[i];
        Values sum_d = mean, sum_dn = mean, dx(x.size());
        for (std::int64_t g = 0; g < G; ++g) {
          const std::int64_t at = g * R * C, c = g * C;
          reference::BatchNormBackwardSums(R, C, d.data() + at, x.data() + at, mean.data() + c, rstd.data() + c, sum_d.data() + c,
                                           sum_dn.data() + c);
          reference::BatchNormBackwardInput(R, C, d.data() + at, x.data() + at, gamma.data(), mean.data() + c, rstd.data() + c,
                                            sum_d.data() + c, sum_dn.data() + c, dx.data() + at);
        }
        const Tensor dout = Put(dy, dtype, images), sd = Poisoned(wide, statistics), sdn = Poisoned(wide, statistics);
        const ConstTensor mask = rest ? ConstTensor(out) : ConstTensor();
        BatchNormBackwardSums(*stream_, {.dout = dout, .in = in, .mean = m, .rstd = s, .relu_out = mask, .sum_d = sd, .sum_dn = sdn});
        const testing::Tolerance sums{.absolute = 2e-5 * std::sqrt(static_cast<double>(R)), .of_largest = 2e-6};
        ExpectNear("sum_d", sd, sum_d, sums);
        ExpectNear("sum_dn", sdn, sum_dn, sums);
        const std::string first = Bytes(sdn);
        BatchNormBackwardSums(*stream_, {.dout = dout, .in = in, .mean = m, .rstd = s, .relu_out = mask, .sum_d = sd, .sum_dn = sdn});
        EXPECT_EQ(Bytes(sdn), first);

        Values added = dx;
        for (std::size_t i = 0; i < added.size(); ++i) added[i] += before[i];
        const Tensor din = Put(before, dtype, images);
        BatchNormBackwardInputArgs backward{.dout = dout,
                                            .in = in,
                                            .gamma = weight,
                                            .mean = m,
                                            .rstd = s,
                                            .relu_out = mask,
                                            .sum_d = sd,
                                            .sum_dn = sdn,
                                            .din = din,
                                            .accumulate = true};
        const testing::Tolerance gradient{.absolute = 2e-4, .of_largest = 1e-5};
        BatchNormBackwardInput(*stream_, backward);
        ExpectNear("din +=", din, added, gradient);
        backward.accumulate = false;
        backward.dresidual = dout;
        BatchNormBackwardInput(*stream_, backward);
        ExpectNear("din =", din, dx, gradient);
        EXPECT_EQ(Get(dout), d);

        Values dgamma(static_cast<std::size_t>(C), 1), dbeta(dgamma.size(), 2), running_mean(dgamma.size(), 3),
            running_variance(dgamma.size(), 4);
        for (std::int64_t i = 0; i < G * C; ++i) {
          const auto k = static_cast<std::size_t>(i), c = static_cast<std::size_t>(i % C);
          dgamma[c] += sum_dn[k], dbeta[c] += sum_d[k];
          running_mean[c] = 0.75 * running_mean[c] + 0.25 * mean[k];
          running_variance[c] =
              0.75 * running_variance[c] + 0.25 * variance[k] * (R > 1 ? static_cast<double>(R) / static_cast<double>(R - 1) : 1);
        }
        const Tensor dg = Put(Values(dgamma.size(), 1), wide, {C}), db = Put(Values(dgamma.size(), 2), wide, {C});
        BatchNormBackwardWeight(*stream_, {.sum_d = sd, .sum_dn = sdn, .dgamma = dg, .dbeta = db});
        ExpectNear("dgamma", dg, dgamma, sums);
        ExpectNear("dbeta", db, dbeta, sums);
        const Tensor rm = Put(Values(dgamma.size(), 3), wide, {C}), rv = Put(Values(dgamma.size(), 4), wide, {C});
        BatchNormUpdateRunning(*stream_,
                               {.mean = m, .variance = v, .rows = R, .momentum = 0.25, .running_mean = rm, .running_variance = rv});
        ExpectNear("running mean", rm, running_mean, {.relative = 2e-6});
        ExpectNear("running variance", rv, running_variance, {.relative = 2e-6});

        const Tensor scale = Poisoned(wide, {C}), shift = Poisoned(wide, {C}), evaluated = Poisoned(dtype, images);
        BatchNormFold(*stream_, {.gamma = weight, .beta = bias, .mean = rm, .variance = rv, .scale = scale, .bias = shift, .eps = kEps});
        BatchNormEvaluate(*stream_, {.in = in,
                                     .gamma = weight,
                                     .beta = bias,
                                     .mean = rm,
                                     .variance = rv,
                                     .residual = args.residual,
                                     .relu = rest,
                                     .out = evaluated,
                                     .eps = kEps});
        const Values by = Get(scale), plus = Get(shift);
        Values expected(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) {
          expected[i] = x[i] * by[i % static_cast<std::size_t>(C)] + plus[i % static_cast<std::size_t>(C)] + (rest ? residual[i] : 0);
          if (rest) expected[i] = std::max(expected[i], 0.0);
        }
        ExpectNear("evaluated", evaluated, expected, near);
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

struct Pool {
  std::int64_t N, C;
  ConvAxis height, width;
};
const Pool kPools[] = {
    {1, 1, {.in = 1}, {.in = 1}},
    {2, 3, {.in = 5, .filter = 2, .stride = 2}, {.in = 7, .filter = 3, .stride = 1, .pad_before = 1, .pad_after = 1}},
    {2, 64, {.in = 9, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1}, {.in = 8, .filter = 3, .stride = 2, .pad_before = 1}},
    {3, 10, {.in = 11, .filter = 3, .stride = 3, .dilation = 2}, {.in = 6, .filter = 2, .stride = 1, .dilation = 3}},
    {2, 24, {.in = 7, .filter = 7}, {.in = 7, .filter = 7}},
};

TEST_P(ImageTest, Pools) {
  for (const DType dtype : Stored()) {
    for (const Pool& z : kPools) {
      const PoolShape shape{z.N, z.C, z.height, z.width};
      ASSERT_TRUE(CheckPoolShape(shape, true).ok()) << CheckPoolShape(shape, true);
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << z.N << " images of " << z.height.in << " x " << z.width.in << " x "
                                        << z.C);
      const Shape in_shape{z.N, z.height.in, z.width.in, z.C}, out_shape{z.N, shape.P(), shape.Q(), z.C};
      Values x = Random(in_shape.elements(), "x", dtype);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 3 == 0 ? std::round(x[i]) : x[i];  // some are equal
      const Values dy = Random(out_shape.elements(), "dy", dtype), before = Random(in_shape.elements(), "before", dtype);
      const Tensor in = Put(x, dtype, in_shape), out = Poisoned(dtype, out_shape), winner = Poisoned(DType::kU8, out_shape);
      const Tensor dout = Put(dy, dtype, out_shape), din = Put(before, dtype, in_shape);
      Values y(dy.size()), dx = before;
      std::vector<std::int64_t> places(dy.size());
      reference::MaxPoolForward(shape, x.data(), y.data(), places.data());
      reference::MaxPoolBackward(shape, dy.data(), places.data(), dx.data());
      MaxPoolForward(*stream_, {.shape = shape, .in = in, .out = out, .winner = winner});
      EXPECT_EQ(Get(out), y);
      EXPECT_EQ(Get(winner), Values(places.begin(), places.end()));
      MaxPoolBackward(*stream_, {.shape = shape, .dout = dout, .winner = winner, .din = din, .accumulate = true});
      ExpectNear("maximum's din +=", din, dx, {.of_largest = 1e-6});
      dx.assign(dx.size(), 0);
      reference::MaxPoolBackward(shape, dy.data(), places.data(), dx.data());
      MaxPoolBackward(*stream_, {.shape = shape, .dout = dout, .winner = winner, .din = din});
      ExpectNear("maximum's din =", din, dx, {.of_largest = 1e-6});
      for (const bool padding : {false, true}) {
        reference::AveragePoolForward(shape, padding, x.data(), y.data());
        AveragePoolForward(*stream_, {.shape = shape, .in = in, .out = out, .count_padding = padding});
        ExpectNear("average", out, y, {.of_largest = 1e-6});
        dx = before;
        reference::AveragePoolBackward(shape, padding, dy.data(), dx.data());
        const Tensor to = Put(before, dtype, in_shape);
        AveragePoolBackward(*stream_, {.shape = shape, .dout = dout, .din = to, .accumulate = true, .count_padding = padding});
        ExpectNear("average's din +=", to, dx, {.of_largest = 1e-6});
      }
      Release();
      if (HasFailure()) return;
    }
  }
  // The first NaN wins.
  const PoolShape row{1, 1, {.in = 1}, {.in = 4, .filter = 4}};
  const Tensor in = Put({5, NAN, 9, NAN}, DType::kF32, {1, 1, 4, 1}), out = Poisoned(DType::kF32, {1, 1, 1, 1}),
               winner = Poisoned(DType::kU8, {1, 1, 1, 1});
  MaxPoolForward(*stream_, {.shape = row, .in = in, .out = out, .winner = winner});
  EXPECT_TRUE(std::isnan(Get(out)[0]));
  EXPECT_EQ(Get(winner)[0], 1);
}

// The formula in f64, rounded once: to the bit.
TEST_P(ImageTest, NormalizeImages) {
  for (const DType dtype : Stored()) {
    for (const std::int64_t channels : {1, 2, 3, 4}) {
      for (const int skip : {0, 1}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << channels << " channels behind " << skip);
        NormalizeImagesArgs args{.mean = {0.1, 0.5, 0.25, 0.9}, .deviation = {0.3, 1, 0.2, 0.7}};
        const Shape shape{3, 9, 19, channels};
        Values bytes(static_cast<std::size_t>(shape.elements())), expected(bytes.size());
        for (std::size_t i = 0; i < bytes.size(); ++i) {
          const std::size_t c = i % static_cast<std::size_t>(channels);
          bytes[i] = static_cast<double>(i * 37 % 256);
          expected[i] = (bytes[i] / 255 - args.mean[c]) / args.deviation[c];
        }
        args.in = Put(bytes, DType::kU8, shape, skip);
        args.out = Poisoned(dtype, shape, skip);
        NormalizeImages(*stream_, args);
        EXPECT_EQ(Get(args.out), testing::RoundTo(dtype, expected));
        Release();
      }
    }
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ImageTest);

}  // namespace
}  // namespace lycia
