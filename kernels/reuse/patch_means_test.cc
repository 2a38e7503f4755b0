// Means of patches beside those of the lowered rows, and the gradients of the convolution over them.
#include "kernels/reuse/patch_means.h"

#include <cmath>
#include <functional>

#include "gtest/gtest.h"
#include "kernels/conv/conv.h"
#include "kernels/reuse/mapped_gemm.h"
#include "kernels/reuse/scatter.h"
#include "kernels/reuse/testing/reuse_case.h"
#include "kernels/testing/compare.h"
#include "kernels/testing/every_isa.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::RandomValues;
using testing::TestMap;
using testing::TestTensor;
using testing::Workspace;

constexpr ConvShape Small(std::int64_t C) {
  return {.N = 2,
          .C = C,
          .K = 3,
          .height = {.in = 7, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1},
          .width = {.in = 8, .filter = 2, .pad_before = 0, .pad_after = 2, .dilation = 2}};
}

std::vector<double> Lowered(const ConvShape& s, const std::vector<double>& image) {
  std::vector<double> rows;
  for (std::int64_t m = 0; m < s.N * s.P() * s.Q(); ++m) {
    for (std::int64_t r = 0; r < s.R(); ++r) {
      for (std::int64_t t = 0; t < s.S(); ++t) {
        const std::int64_t n = m / s.Q() / s.P(), h = s.height.InputOf(m / s.Q() % s.P(), r), w = s.width.InputOf(m % s.Q(), t);
        for (std::int64_t c = 0; c < s.C; ++c) {
          const bool inside = s.height.Inside(h) && s.width.Inside(w);
          rows.push_back(inside ? image[static_cast<std::size_t>(((n * s.H() + h) * s.W() + w) * s.C + c)] : 0);
        }
      }
    }
  }
  return rows;
}

// A coarse rule on smooth images: clusters of several patches that are not equal.
TestTensor SmoothImage(DType dtype, const ConvShape& s) {
  std::vector<double> image = RandomValues(s.N * s.H() * s.W() * s.C, "noise", 0.05);
  for (std::size_t i = 0; i < image.size(); ++i) {
    const std::int64_t pixel = static_cast<std::int64_t>(i) / s.C;
    image[i] += pixel % s.W() / 4 + pixel / s.W() % s.H() / 3;
  }
  return TestTensor(dtype, {s.N, s.H(), s.W(), s.C}, image);
}
void BuildQuantized(Stream& stream, const ConvShape& s, const TestTensor& in, const TestMap& map) {
  const ReuseRule rule = {.policy = ReusePolicy::kQuantized, .delta = 1};
  const TestTensor workspace = Workspace(BuildPatchMapBytes(rule, in.tensor().dtype, s));
  BuildPatchMap(stream, {.shape = s, .in = in, .rule = rule, .map = *map, .workspace = workspace.tensor().data});
}

TEST(ClusterPatchMeans, AreThoseOfTheLoweredRows) {
  testing::ForEveryIsa([&] {
    for (const DType dtype : testing::kStoredDTypes) {
      for (const std::int64_t C : {1, 3, 16, 37}) {
        const ConvShape s = Small(C);
        SCOPED_TRACE(::testing::Message() << Name(dtype) << " " << s.ToString());
        const std::int64_t patches = s.N * s.P() * s.Q(), depth = s.R() * s.S() * s.C;
        const CpuStream one, three({.threads = 3});
        const TestTensor in = SmoothImage(dtype, s), rows(dtype, {patches, depth}, Lowered(s, in.values()));
        const TestMap map(patches);
        BuildQuantized(*one, s, in, map);
        TestTensor means(dtype, {map.size(), depth}), again(dtype, {map.size(), depth}), of_rows(dtype, {map.size(), depth});
        const TestTensor workspace = Workspace(ClusterPatchMeansBytes(dtype, s));
        ReuseMeter meter, meter_again, meter_of_rows;
        ClusterPatchMeansArgs args = {
            .map = *map, .shape = s, .in = in, .to = AsMatrix(means.tensor()), .meter = &meter, .workspace = workspace.tensor().data};
        ClusterPatchMeans(*one, args);
        args.to = AsMatrix(again.tensor());
        args.meter = &meter_again;
        ClusterPatchMeans(*three, args);
        ClusterMeans(*one, {.map = *map,
                            .x = AsMatrix(rows.tensor()),
                            .to = AsMatrix(of_rows.tensor()),
                            .meter = &meter_of_rows,
                            .workspace = workspace.tensor().data});
        EXPECT_EQ(means.values(), of_rows.values());
        EXPECT_EQ(means.values(), again.values());
        EXPECT_EQ(meter.error_squares, meter_again.error_squares);
        EXPECT_NEAR(meter.squares, meter_of_rows.squares, 1e-12 * meter_of_rows.squares);
        EXPECT_NEAR(meter.error_squares, meter_of_rows.error_squares, 1e-6 * meter_of_rows.error_squares);
        EXPECT_GT(meter.error_squares, 0);
      }
    }
  });
}

TEST(ClusterPatchMeans, ConvolutionOverThemHasTheGradientsOfItsFunction) {
  const CpuStream stream;
  const ConvShape s = Small(2);
  const std::int64_t patches = s.N * s.P() * s.Q(), depth = s.R() * s.S() * s.C;
  const TestTensor in = SmoothImage(DType::kF64, s), weight(DType::kF64, {s.K, s.R(), s.S(), s.C}, RandomValues(s.K * depth, "weight"));
  const TestTensor dout(DType::kF64, {s.N, s.P(), s.Q(), s.K}, RandomValues(patches * s.K, "dout"));
  const TestMap map(patches);
  BuildQuantized(*stream, s, in, map);
  ASSERT_LT(map.size(), patches);
  const TestTensor workspace = Workspace(ClusterPatchMeansBytes(DType::kF64, s));
  TestTensor means(DType::kF64, {patches, depth}), c(DType::kF64, {patches, s.K}), y(DType::kF64, {patches, s.K});
  const Matrix filters = {weight.tensor().data, DType::kF64, s.K, depth, depth};
  const auto forward = [&] {
    ClusterPatchMeans(*stream, {.map = *map, .shape = s, .in = in, .to = AsMatrix(means.tensor()), .workspace = workspace.tensor().data});
    MappedGemm(*stream,
               {.map = *map, .gemm = {.a = AsMatrix(means.tensor()), .b = filters, .transpose_b = true, .c = AsMatrix(c.tensor())}});
    ScatterRows(*stream, {.map = *map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor())});
    double sum = 0;
    const std::vector<double> out = y.values(), d = dout.values();
    for (std::size_t i = 0; i < out.size(); ++i) sum += d[i] * out[i];
    return sum;
  };
  const auto differences = [&](const TestTensor& v) {
    constexpr double kStep = 1e-3;
    std::vector<double> gradient;
    for (std::int64_t i = 0; i < v.tensor().elements(); ++i) {
      double* at = v.as<double>() + i;
      const double before = *at;
      *at = before + kStep;
      const double up = forward();
      *at = before - kStep;
      gradient.push_back((up - forward()) / (2 * kStep));
      *at = before;
    }
    return gradient;
  };
  forward();
  const ConstMatrix rows_of_dout = {dout.tensor().data, DType::kF64, patches, s.K, s.K};
  TestTensor sums(DType::kF64, {patches, s.K}), shares(DType::kF64, {patches, s.K}), spread(DType::kF64, {s.N, s.P(), s.Q(), s.K});
  TestTensor dweight(DType::kF64, {s.K, depth}), din(DType::kF64, {s.N, s.H(), s.W(), s.C});
  SegmentSum(*stream, {.map = *map, .dy = rows_of_dout, .to = AsMatrix(sums.tensor())});
  MappedGemm(*stream,
             {.map = *map,
              .over = MappedOver::kDepth,
              .gemm = {.a = AsMatrix(sums.tensor()), .transpose_a = true, .b = AsMatrix(means.tensor()), .c = AsMatrix(dweight.tensor())}});
  SegmentSum(*stream, {.map = *map, .dy = rows_of_dout, .to = AsMatrix(shares.tensor()), .mean = true});
  ScatterRows(*stream, {.map = *map, .c = AsMatrix(shares.tensor()), .y = {spread.tensor().data, DType::kF64, patches, s.K, s.K}});
  ConvBackwardInput(*stream, {.shape = s, .dout = spread, .weight = weight, .din = din});
  EXPECT_TRUE(AllNear(dweight.values(), differences(weight), {.of_largest = 1e-6}));
  EXPECT_TRUE(AllNear(din.values(), differences(in), {.of_largest = 1e-6}));
}

}  // namespace
}  // namespace lycia
