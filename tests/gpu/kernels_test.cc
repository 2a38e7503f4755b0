// Every kernel that has a CUDA version, on every device present, against formulas written out here in f64. Runs on the CPU too, so that a
// machine without a GPU proves the test itself.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/squared_norm.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

using Values = std::vector<double>;

// Numbers as the dtype holds them: normal(mean, 1).
Values Normal(const std::string& name, std::int64_t n, DType dtype, double mean = 0) {
  const RandomStream random(7, name, 0);
  Values values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = mean + random.Normal(i);
    values[i] = dtype == DType::kF32 ? static_cast<double>(static_cast<float>(x)) : x;
  }
  return values;
}

class KernelTest : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::kCuda) {
      StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
      if (!device.ok()) GTEST_SKIP() << device.status().message();
      device_ = *std::move(device);
    } else {
      device_ = NewCpuDevice();
    }
    StatusOr<std::unique_ptr<Stream>> stream = device_->NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
  }

  // A tensor on the device that begins `skip` elements behind an aligned address.
  Tensor Put(const Values& values, DType dtype, Shape shape, int skip = 0) {
    LYCIA_CHECK_EQ(shape.elements(), static_cast<std::int64_t>(values.size()));
    StatusOr<Buffer> buffer = device_->Allocate((shape.elements() + skip) * SizeOf(dtype), MemoryKind::kDevice);
    LYCIA_CHECK_OK(buffer.status());
    buffers_.push_back(*std::move(buffer));
    const Tensor tensor{static_cast<char*>(buffers_.back().data()) + skip * SizeOf(dtype), dtype, shape};
    std::vector<float> narrow(values.begin(), values.end());
    stream_->Copy(tensor.data, dtype == DType::kF32 ? static_cast<const void*>(narrow.data()) : values.data(), tensor.bytes());
    LYCIA_CHECK_OK(stream_->Synchronize());
    return tensor;
  }
  Values Get(const Tensor& tensor) {
    std::vector<float> narrow(static_cast<std::size_t>(tensor.elements()));
    Values values(narrow.size());
    stream_->Copy(tensor.dtype == DType::kF32 ? static_cast<void*>(narrow.data()) : values.data(), tensor.data, tensor.bytes());
    LYCIA_CHECK_OK(stream_->Synchronize());
    if (tensor.dtype == DType::kF32) std::copy(narrow.begin(), narrow.end(), values.begin());
    return values;
  }
  // Errors are measured by the largest expected value, or by `scale` where that is larger: the terms of a sum that cancels.
  void ExpectNear(const char* what, const Tensor& tensor, const Values& expected, double tolerance, double scale = 1e-30) {
    const Values values = Get(tensor);
    double worst = -1;
    std::size_t at = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      scale = std::max(scale, std::abs(expected[i]));
      const double error = std::isfinite(values[i]) ? std::abs(values[i] - expected[i]) : INFINITY;
      if (error > worst) worst = error, at = i;
    }
    EXPECT_LE(worst, tolerance * scale) << what << ' ' << tensor.spec().ToString() << " element " << at << ": " << values[at]
                                        << " instead of " << expected[at];
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> buffers_;
};

struct Size {
  std::int64_t rows, cols;
};
// One and several rows a block, one warp and up to 32 a row, incomplete packs, warps and tiles, clusters of one to eight blocks.
constexpr Size kSizes[] = {{1, 1},    {3, 2},    {5, 7},    {2, 33},   {7, 100},   {33, 768},  {260, 64},
                           {600, 40}, {17, 513}, {9, 1026}, {2, 4095}, {3, 16384}, {1100, 36}, {4100, 5}};

std::int64_t MaxCols(DType dtype) { return dtype == DType::kF32 ? 16384 : 8192; }

TEST_P(KernelTest, LayerNorm) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const double tolerance = dtype == DType::kF32 ? 4e-6 : 1e-14;
    for (const auto [R, C] : kSizes) {
      if (C > MaxCols(dtype)) continue;
      for (const int skip : {0, 1}) {
        if (skip == 1 && C > 4096) continue;
        SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << R << " x " << C << " from element " << skip);
        const Values x = Normal("x", R * C, dtype, 3), gamma = Normal("gamma", C, dtype, 1), beta = Normal("beta", C, dtype);
        const Values dy = Normal("dy", R * C, dtype), before = Normal("before", R * C, dtype), dbefore = Normal("dbefore", C, dtype);
        const double eps = 1e-2;  // large enough to be seen
        Values y(x.size()), dx(x.size()), sum(x.size()), mean(static_cast<std::size_t>(R)), rstd(mean.size()), dgamma = dbefore,
                                                                                                               dbeta = dbefore;
        double largest = 0;  // of the terms of dx
        for (std::int64_t r = 0; r < R; ++r) {
          const auto at = [&, r = r, C = C](std::int64_t c) { return static_cast<std::size_t>(r * C + c); };
          double m = 0, v = 0, g_mean = 0, gn_mean = 0;
          for (std::int64_t c = 0; c < C; ++c) m += x[at(c)] / static_cast<double>(C);
          for (std::int64_t c = 0; c < C; ++c) v += (x[at(c)] - m) * (x[at(c)] - m) / static_cast<double>(C);
          const double s = 1 / std::sqrt(v + eps);
          mean[static_cast<std::size_t>(r)] = m;
          rstd[static_cast<std::size_t>(r)] = s;
          for (std::int64_t c = 0; c < C; ++c) {
            const auto k = static_cast<std::size_t>(c);
            const double n = (x[at(c)] - m) * s, g = dy[at(c)] * gamma[k];
            y[at(c)] = n * gamma[k] + beta[k];
            g_mean += g / static_cast<double>(C);
            gn_mean += g * n / static_cast<double>(C);
            largest = std::max(largest, std::abs(s * g));
            dgamma[k] += dy[at(c)] * n;
            dbeta[k] += dy[at(c)];
          }
          for (std::int64_t c = 0; c < C; ++c) {
            const auto k = static_cast<std::size_t>(c);
            dx[at(c)] = s * (dy[at(c)] * gamma[k] - g_mean - (x[at(c)] - m) * s * gn_mean);
            sum[at(c)] = before[at(c)] + dx[at(c)];
          }
        }
        const Tensor in = Put(x, dtype, {R, C}, skip), weight = Put(gamma, dtype, {C}), bias = Put(beta, dtype, {C});
        const Tensor out = Put(before, dtype, {R, C}, skip), row_mean = Put(Values(mean.size()), dtype, {R}),
                     row_rstd = Put(Values(mean.size()), dtype, {R});
        LayerNormForward(*stream_, {.in = in, .gamma = weight, .beta = bias, .out = out, .mean = row_mean, .rstd = row_rstd, .eps = eps});
        ExpectNear("out", out, y, tolerance);
        ExpectNear("mean", row_mean, mean, tolerance);
        ExpectNear("rstd", row_rstd, rstd, tolerance);

        const Tensor dout = Put(dy, dtype, {R, C}, skip), din = Put(before, dtype, {R, C}, skip);
        LayerNormBackwardInputArgs backward{
            .dout = dout, .in = in, .gamma = weight, .mean = row_mean, .rstd = row_rstd, .din = din, .accumulate = true};
        LayerNormBackwardInput(*stream_, backward);
        ExpectNear("din +=", din, sum, tolerance, largest);
        backward.accumulate = false;
        LayerNormBackwardInput(*stream_, backward);
        ExpectNear("din =", din, dx, tolerance, largest);

        const Tensor dweight = Put(dbefore, dtype, {C}), dbias = Put(dbefore, dtype, {C});
        const LayerNormBackwardWeightArgs weights{
            .dout = dout, .in = in, .mean = row_mean, .rstd = row_rstd, .dgamma = dweight, .dbeta = dbias};
        LayerNormBackwardWeight(*stream_, weights);
        ExpectNear("dgamma", dweight, dgamma, tolerance);
        ExpectNear("dbeta", dbias, dbeta, tolerance);
        const Tensor again = Put(dbefore, dtype, {C}), bias_again = Put(dbefore, dtype, {C});
        LayerNormBackwardWeight(*stream_,
                                {.dout = dout, .in = in, .mean = row_mean, .rstd = row_rstd, .dgamma = again, .dbeta = bias_again});
        EXPECT_EQ(Get(again), Get(dweight));  // bit for bit
        EXPECT_EQ(Get(bias_again), Get(dbias));

        LayerNormBackwardInput(*stream_, {.dout = dout, .in = in, .gamma = weight, .mean = row_mean, .rstd = row_rstd, .din = dout});
        ExpectNear("din in place", dout, dx, tolerance, largest);
        LayerNormForward(*stream_, {.in = in, .gamma = weight, .beta = bias, .out = in, .mean = row_mean, .rstd = row_rstd, .eps = eps});
        ExpectNear("out in place", in, y, tolerance);
        ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();
        if (HasFailure()) return;
        buffers_.clear();
      }
    }
  }
}

TEST_P(KernelTest, AdamW) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kLr = 0.01, kClip = 0.25;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::int64_t n : {1, 3, 4, 255, 1024, 1025, 4099}) {
      for (const double decay : {0.0, 0.1}) {
        SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << n << " elements, decay " << decay);
        Values w = Normal("w", n, dtype), m = Normal("m", n, dtype), v = Normal("v", n, dtype);
        for (double& x : v) x = std::abs(x);
        const Values g = Normal("g", n, dtype);
        const StepScalars scalars{kLr, kClip, 1 - std::pow(kBeta1, 3), 1 - std::pow(kBeta2, 3)};
        Values words(sizeof(scalars) / sizeof(double));
        std::memcpy(words.data(), &scalars, sizeof(scalars));
        const Tensor device_scalars = Put(words, DType::kF64, {static_cast<std::int64_t>(words.size())});
        const auto update = [&](const Tensor& weight, const Tensor& gradient, const Tensor& first, const Tensor& second) {
          AdamW(*stream_, {.weight = weight,
                           .gradient = gradient,
                           .m = first,
                           .v = second,
                           .beta1 = kBeta1,
                           .beta2 = kBeta2,
                           .eps = kEps,
                           .weight_decay = decay,
                           .scalars = static_cast<const StepScalars*>(device_scalars.data)});
        };
        const Tensor tw = Put(w, dtype, {n}), tg = Put(g, dtype, {n}), tm = Put(m, dtype, {n}), tv = Put(v, dtype, {n});
        const Tensor uw = Put(w, dtype, {n}, 1), ug = Put(g, dtype, {n}, 1), um = Put(m, dtype, {n}, 1), uv = Put(v, dtype, {n}, 1);
        update(tw, tg, tm, tv);
        update(uw, ug, um, uv);
        for (std::size_t i = 0; i < w.size(); ++i) {
          w[i] -= kLr * decay * w[i];
          m[i] = kBeta1 * m[i] + (1 - kBeta1) * kClip * g[i];
          v[i] = kBeta2 * v[i] + (1 - kBeta2) * kClip * g[i] * kClip * g[i];
          w[i] -= kLr * (m[i] / scalars.bias_correction1) / (std::sqrt(v[i] / scalars.bias_correction2) + kEps);
        }
        const double tolerance = dtype == DType::kF32 ? 1e-6 : 1e-15;
        ExpectNear("weight", tw, w, tolerance);
        ExpectNear("m", tm, m, tolerance);
        ExpectNear("v", tv, v, tolerance);
        EXPECT_EQ(Get(uw), Get(tw));  // any cut of a segment gives the same bits
        EXPECT_EQ(Get(um), Get(tm));
        EXPECT_EQ(Get(uv), Get(tv));
        if (HasFailure()) return;
        buffers_.clear();
      }
    }
  }
}

TEST_P(KernelTest, SquaredNormBlocks) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::int64_t n : {1, 31, 4095, 4096, 4097, 3 * 4096 + 5}) {
      SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << n << " elements");
      const Values x = Normal("x", n, dtype);
      Values expected(static_cast<std::size_t>(NumSquaredNormBlocks(n)));
      for (std::size_t i = 0; i < x.size(); ++i) expected[i / kSquaredNormBlock] += x[i] * x[i];
      const auto blocks = static_cast<std::int64_t>(expected.size());
      const Tensor in = Put(x, dtype, {n}, 1), sums = Put(Values(expected.size(), 5), DType::kF64, {blocks});
      SquaredNormBlocks(*stream_, {.x = in, .block_sums = static_cast<double*>(sums.data)});
      ExpectNear("sums", sums, expected, 1e-14);
      const Values first = Get(sums);
      SquaredNormBlocks(*stream_, {.x = in, .block_sums = static_cast<double*>(sums.data)});
      EXPECT_EQ(Get(sums), first);
    }
  }
  // A gradient that is not finite shows in the sum of its block, and in that one only.
  Values x(2 * kSquaredNormBlock, 1);
  x[kSquaredNormBlock + 17] = NAN;
  const Tensor in = Put(x, DType::kF32, {2 * kSquaredNormBlock}), sums = Put(Values(2), DType::kF64, {2});
  SquaredNormBlocks(*stream_, {.x = in, .block_sums = static_cast<double*>(sums.data)});
  EXPECT_EQ(Get(sums)[0], kSquaredNormBlock);
  EXPECT_TRUE(std::isnan(Get(sums)[1]));
}

TEST_P(KernelTest, EmptyTensorsAreNothingToDo) {
  const Tensor none{nullptr, DType::kF32, {0}}, no_rows{nullptr, DType::kF32, {0, 8}};
  const Tensor eight = Put(Values(8, 2), DType::kF32, {8});
  const Tensor scalars = Put(Values(4, 1), DType::kF64, {4});
  AdamW(*stream_, {.weight = none, .gradient = none, .m = none, .v = none, .scalars = static_cast<const StepScalars*>(scalars.data)});
  SquaredNormBlocks(*stream_, {.x = none, .block_sums = nullptr});
  LayerNormForward(*stream_, {.in = no_rows, .gamma = eight, .beta = eight, .out = no_rows, .mean = none, .rstd = none});
  LayerNormBackwardWeight(*stream_, {.dout = no_rows, .in = no_rows, .mean = none, .rstd = none, .dgamma = eight, .dbeta = eight});
  EXPECT_TRUE(stream_->Synchronize().ok()) << stream_->status();
  EXPECT_EQ(Get(eight), Values(8, 2));
}

INSTANTIATE_TEST_SUITE_P(Devices, KernelTest, ::testing::Values(DeviceKind::kCpu, DeviceKind::kCuda),
                         [](const auto& info) { return std::string(info.param == DeviceKind::kCpu ? "Cpu" : "Cuda"); });

}  // namespace
}  // namespace lycia
