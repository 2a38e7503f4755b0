// Layer norm and RMS norm, alone and of a sum, forward and backward, and column sums, against their specifications in f64.
#include <algorithm>
#include <cmath>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_ref.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/norm/layer_norm_ref.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/norm/rms_norm_ref.h"
#include "kernels/testing/compare.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

using NormTest = KernelFixture;

struct Size {
  std::int64_t rows, cols;
};
// One and several rows a block, one warp and up to 32 a row, incomplete packs, warps and tiles, one and many splits of the rows.
constexpr Size kSizes[] = {{1, 1},    {3, 2},    {5, 7},    {2, 33},    {7, 100},  {33, 768}, {150, 64}, {600, 40},
                           {17, 514}, {9, 1028}, {2, 4095}, {1, 16384}, {1100, 8}, {2050, 5}, {300, 520}};
constexpr double kEps = 1e-2;  // large enough to be seen

// Norms of rows whose mean is three times their deviation.
Values Shifted(Values values, DType dtype) {
  for (double& x : values) x += 3;
  return testing::RoundTo(dtype, std::move(values));
}
bool TooLong(std::int64_t cols, DType dtype, int skip) {
  return cols > (dtype == DType::kF64 ? 8192 : 16384) || ((cols % 2 == 1 || skip != 0) && cols > 4096);
}
// 4e-6 of the largest, as f32 sums of thousands of terms leave it.
constexpr testing::Tolerance kRow{.absolute = 1e-6, .of_largest = 4e-6};

TEST_P(NormTest, LayerNorm) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto [R, C] : kSizes) {
      for (const int skip : {0, 1}) {
        if (TooLong(C, dtype, skip) || (skip == 1 && C > 1100)) continue;
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x " << C << " from element " << skip);
        const Values x = Shifted(Random(R * C, "x", dtype), dtype), gamma = Shifted(Random(C, "gamma", dtype), dtype),
                     beta = Random(C, "beta", dtype), dy = Random(R * C, "dy", dtype), before = Random(R * C, "before", dtype),
                     dbefore = Random(C, "dbefore", wide);
        Values y(x.size()), dx(x.size()), mean(static_cast<std::size_t>(R)), rstd(mean.size()), dgamma = dbefore, dbeta = dbefore;
        reference::LayerNormForward<double>(R, C, x.data(), gamma.data(), beta.data(), kEps, y.data(), mean.data(), rstd.data());
        reference::LayerNormBackwardInput<double>(R, C, dy.data(), x.data(), gamma.data(), mean.data(), rstd.data(), dx.data());
        reference::LayerNormBackwardWeight<double>(R, C, dy.data(), x.data(), mean.data(), rstd.data(), dgamma.data(), dbeta.data());
        Values sum = dx;
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += before[i];

        const Tensor in = Put(x, dtype, {R, C}, skip), weight = Put(gamma, dtype, {C}), bias = Put(beta, dtype, {C});
        const Tensor out = Poisoned(dtype, {R, C}, skip), row_mean = Poisoned(wide, {R}), row_rstd = Poisoned(wide, {R});
        LayerNormForward(*stream_, {.in = in, .gamma = weight, .beta = bias, .out = out, .mean = row_mean, .rstd = row_rstd, .eps = kEps});
        ExpectNear("out", out, y, kRow);
        ExpectNear("mean", row_mean, mean, kRow);
        ExpectNear("rstd", row_rstd, rstd, kRow);

        const Tensor dout = Put(dy, dtype, {R, C}, skip), din = Put(before, dtype, {R, C}, skip);
        LayerNormBackwardInputArgs backward{
            .dout = dout, .in = in, .gamma = weight, .mean = row_mean, .rstd = row_rstd, .din = din, .accumulate = true};
        // Rows that cancel: of the size of the terms, |rstd dy gamma|.
        const testing::Tolerance terms{.absolute = 1e-4, .of_largest = 4e-6};
        LayerNormBackwardInput(*stream_, backward);
        ExpectNear("din +=", din, sum, terms);
        backward.accumulate = false;
        LayerNormBackwardInput(*stream_, backward);
        ExpectNear("din =", din, dx, terms);

        const Tensor dweight = Put(dbefore, wide, {C}), dbias = Put(dbefore, wide, {C});
        const testing::Tolerance sums{.absolute = 4e-6 * std::sqrt(static_cast<double>(R)), .of_largest = 4e-6};
        LayerNormBackwardWeight(*stream_, {.dout = dout, .in = in, .mean = row_mean, .rstd = row_rstd, .dgamma = dweight, .dbeta = dbias});
        ExpectNear("dgamma", dweight, dgamma, sums);
        ExpectNear("dbeta", dbias, dbeta, sums);
        const Tensor again = Put(dbefore, wide, {C}), bias_again = Put(dbefore, wide, {C});
        LayerNormBackwardWeight(*stream_,
                                {.dout = dout, .in = in, .mean = row_mean, .rstd = row_rstd, .dgamma = again, .dbeta = bias_again});
        EXPECT_EQ(Bytes(again), Bytes(dweight));
        EXPECT_EQ(Bytes(bias_again), Bytes(dbias));

        LayerNormBackwardInput(*stream_, {.dout = dout, .in = in, .gamma = weight, .mean = row_mean, .rstd = row_rstd, .din = dout});
        EXPECT_EQ(Bytes(dout), Bytes(din));
        LayerNormForward(*stream_, {.in = in, .gamma = weight, .beta = bias, .out = in, .mean = row_mean, .rstd = row_rstd, .eps = kEps});
        EXPECT_EQ(Bytes(in), Bytes(out));
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(NormTest, RmsNorm) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto [R, C] : kSizes) {
      if (TooLong(C, dtype, 0)) continue;
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x " << C);
      const Values x = Random(R * C, "x", dtype), gamma = Shifted(Random(C, "gamma", dtype), dtype), dy = Random(R * C, "dy", dtype),
                   before = Random(R * C, "before", dtype), dbefore = Random(C, "dbefore", wide);
      Values y(x.size()), dx(x.size()), rstd(static_cast<std::size_t>(R)), dgamma = dbefore;
      reference::RmsNormForward<double>(R, C, x.data(), gamma.data(), kEps, y.data(), rstd.data());
      reference::RmsNormBackwardInput<double>(R, C, dy.data(), x.data(), gamma.data(), rstd.data(), dx.data());
      reference::RmsNormBackwardWeight<double>(R, C, dy.data(), x.data(), rstd.data(), dgamma.data());
      Values sum = dx;
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += before[i];
      const Tensor in = Put(x, dtype, {R, C}), weight = Put(gamma, dtype, {C}), out = Poisoned(dtype, {R, C}),
                   row_rstd = Poisoned(wide, {R});
      RmsNormForward(*stream_, {.in = in, .gamma = weight, .out = out, .rstd = row_rstd, .eps = kEps});
      ExpectNear("out", out, y, kRow);
      ExpectNear("rstd", row_rstd, rstd, kRow);
      const Tensor dout = Put(dy, dtype, {R, C}), din = Put(before, dtype, {R, C}), dweight = Put(dbefore, wide, {C});
      const testing::Tolerance terms{.absolute = 2e-5, .of_largest = 4e-6};
      RmsNormBackwardInput(*stream_, {.dout = dout, .in = in, .gamma = weight, .rstd = row_rstd, .din = din, .accumulate = true});
      ExpectNear("din +=", din, sum, terms);
      RmsNormBackwardWeight(*stream_, {.dout = dout, .in = in, .rstd = row_rstd, .dgamma = dweight});
      ExpectNear("dgamma", dweight, dgamma, {.absolute = 4e-6 * std::sqrt(static_cast<double>(R)), .of_largest = 4e-6});
      RmsNormBackwardInput(*stream_, {.dout = dout, .in = in, .gamma = weight, .rstd = row_rstd, .din = dout});
      ExpectNear("din in place", dout, dx, terms);
      Release();
      if (HasFailure()) return;
    }
  }
}

// The same bits as the sum and the norm apart.
TEST_P(NormTest, NormsOfASum) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto& [R, C] : {Size{5, 7}, {33, 768}, {3, 4096}, {600, 40}}) {
      SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x " << C);
      const Values a = Random(R * C, "a", dtype), b = Random(R * C, "b", dtype), gamma = Random(C, "gamma", dtype);
      Values x(a.size());
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = a[i] + b[i];
      const Tensor in = Put(a, dtype, {R, C}), residual = Put(b, dtype, {R, C}), weight = Put(gamma, dtype, {C}),
                   sum = Poisoned(dtype, {R, C});
      const Tensor out = Poisoned(dtype, {R, C}), alone = Poisoned(dtype, {R, C}), mean = Poisoned(wide, {R}), rstd = Poisoned(wide, {R});
      AddLayerNormForward(*stream_, {.in = in,
                                     .residual = residual,
                                     .sum = sum,
                                     .gamma = weight,
                                     .beta = weight,
                                     .out = out,
                                     .mean = mean,
                                     .rstd = rstd,
                                     .eps = kEps});
      ExpectNear("sum", sum, x, {.relative = 1e-7});
      LayerNormForward(*stream_, {.in = sum, .gamma = weight, .beta = weight, .out = alone, .mean = mean, .rstd = rstd, .eps = kEps});
      EXPECT_EQ(Bytes(out), Bytes(alone));
      AddRmsNormForward(*stream_,
                        {.in = in, .residual = residual, .sum = residual, .gamma = weight, .out = out, .rstd = rstd, .eps = kEps});
      EXPECT_EQ(Bytes(residual), Bytes(sum));
      RmsNormForward(*stream_, {.in = sum, .gamma = weight, .out = alone, .rstd = rstd, .eps = kEps});
      EXPECT_EQ(Bytes(out), Bytes(alone));
      Release();
      if (HasFailure()) return;
    }
  }
}

TEST_P(NormTest, ColumnSumsOfAPartOfAMatrix) {
  for (const DType dtype : Stored()) {
    const DType wide = ArithmeticDType(dtype);
    for (const auto [R, C] : kSizes) {
      for (const std::int64_t pad : {0, 3}) {
        SCOPED_TRACE(::testing::Message() << Name(dtype) << ' ' << R << " x " << C << " of " << C + pad);
        const Values x = Random(R * (C + pad), "x", dtype), before = Random(C, "before", wide);
        Values sums = before;
        for (std::int64_t r = 0; r < R; ++r) {
          for (std::int64_t c = 0; c < C; ++c) sums[static_cast<std::size_t>(c)] += x[static_cast<std::size_t>(r * (C + pad) + c)];
        }
        const Tensor in = Put(x, dtype, {R, C + pad}), dbias = Put(before, wide, {C});
        BiasGradient(*stream_, {.dout = {in.data, dtype, R, C, C + pad}, .dbias = dbias});
        ExpectNear("dbias", dbias, sums, {.absolute = 1e-6 * std::sqrt(static_cast<double>(R)), .of_largest = 1e-6});
        Release();
        if (HasFailure()) return;
      }
    }
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(NormTest);

}  // namespace
}  // namespace lycia
