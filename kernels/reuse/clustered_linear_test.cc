// "Clustered linear": y_m = c_id(m) W + b with c_j the mean of cluster j. With the clusters held, its gradients are dW = Cᵀ S with S the
// sums of dy by cluster, and dx_m = (S_id(m) / n_id(m)) Wᵀ (Adaptive Deep Reuse, Ning & Shen 2019; the division stands between the two).
// Here: that these are the gradients of that function, by finite differences in f64, and what exact equality makes of them.
#include <cmath>
#include <functional>

#include "gtest/gtest.h"
#include "kernels/gemm/gemm.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/mapped_gemm.h"
#include "kernels/reuse/scatter.h"
#include "kernels/reuse/testing/reuse_case.h"
#include "kernels/testing/compare.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::RandomValues;
using testing::RepeatedRows;
using testing::TestMap;
using testing::TestTensor;
using testing::Workspace;

constexpr std::int64_t M = 23, K = 7, N = 5;

// Rows near to a few centers, clustered by a rule that joins some of them.
TestTensor NearRows(DType dtype) {
  std::vector<double> values = RepeatedRows(M, K, 6, "centers");
  const std::vector<double> noise = RandomValues(M * K, "noise", 0.02);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::round(values[i]) + noise[i];
  return TestTensor(dtype, {M, K}, values);
}
void BuildQuantized(Stream& stream, const TestTensor& x, const TestMap& map) {
  const ReuseRule rule = {.policy = ReusePolicy::kQuantized, .delta = 1};
  const TestTensor workspace = Workspace(BuildIndexMapBytes(rule, x.tensor().dtype, M));
  BuildIndexMap(stream, {.rows = AsMatrix(x.tensor()), .rule = rule, .map = *map, .workspace = workspace.tensor().data});
}

// The function, by the kernels: means, the product of their rows, all rows from them.
std::vector<double> Forward(Stream& stream, const IndexMap& map, const TestTensor& x, const TestTensor& w) {
  TestTensor means(DType::kF64, {M, K}), c(DType::kF64, {M, N}), y(DType::kF64, {M, N});
  ClusterMeans(stream, {.map = map, .x = AsMatrix(x.tensor()), .to = AsMatrix(means.tensor())});
  MappedGemm(stream, {.map = map, .gemm = {.a = AsMatrix(means.tensor()), .b = AsMatrix(w.tensor()), .c = AsMatrix(c.tensor())}});
  ScatterRows(stream, {.map = map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor())});
  return y.values();
}

// d (dy . y) / d v[i] for each element of v, by central differences of a function that is linear in it: exact but for rounding.
std::vector<double> Differences(const TestTensor& v, const std::vector<double>& dy, const std::function<std::vector<double>()>& forward) {
  constexpr double kStep = 1e-3;
  std::vector<double> gradient;
  for (std::int64_t i = 0; i < v.tensor().elements(); ++i) {
    double* at = v.as<double>() + i;
    const double before = *at;
    double difference = 0;
    for (const double sign : {1.0, -1.0}) {
      *at = before + sign * kStep;
      const std::vector<double> y = forward();
      for (std::size_t e = 0; e < y.size(); ++e) difference += sign * dy[e] * y[e];
    }
    *at = before;
    gradient.push_back(difference / (2 * kStep));
  }
  return gradient;
}

TEST(ClusteredLinear, GradientsAreThoseOfTheFunctionWithItsClustersHeld) {
  const CpuStream stream;
  const TestTensor x = NearRows(DType::kF64), w(DType::kF64, {K, N}, RandomValues(K * N, "w")),
                   dy(DType::kF64, {M, N}, RandomValues(M * N, "dy"));
  const TestMap map(M);
  BuildQuantized(*stream, x, map);
  ASSERT_GT(map.size(), 2);
  ASSERT_LT(map.size(), M / 2);

  TestTensor means(DType::kF64, {M, K}), sums(DType::kF64, {M, N}), dw(DType::kF64, {K, N}), dc(DType::kF64, {M, K}),
      dx(DType::kF64, {M, K});
  ClusterMeans(*stream, {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(means.tensor())});
  SegmentSum(*stream, {.map = *map, .dy = AsMatrix(dy.tensor()), .to = AsMatrix(sums.tensor())});
  MappedGemm(*stream,
             {.map = *map,
              .over = MappedOver::kDepth,
              .gemm = {.a = AsMatrix(means.tensor()), .transpose_a = true, .b = AsMatrix(sums.tensor()), .c = AsMatrix(dw.tensor())}});
  MappedGemm(*stream, {.map = *map,
                       .gemm = {.a = AsMatrix(sums.tensor()), .b = AsMatrix(w.tensor()), .transpose_b = true, .c = AsMatrix(dc.tensor())}});
  ScatterRows(*stream, {.map = *map, .c = AsMatrix(dc.tensor()), .y = AsMatrix(dx.tensor()), .mean = true});

  const auto forward = [&] { return Forward(*stream, *map, x, w); };
  EXPECT_TRUE(AllNear(dw.values(), Differences(w, dy.values(), forward), {.of_largest = 1e-6}, {K, N}));
  EXPECT_TRUE(AllNear(dx.values(), Differences(x, dy.values(), forward), {.of_largest = 1e-6}, {M, K}));

  // Dividing the sums first is the same gradient.
  TestTensor shares(DType::kF64, {M, N}), dc_of_shares(DType::kF64, {M, K}), again(DType::kF64, {M, K});
  SegmentSum(*stream, {.map = *map, .dy = AsMatrix(dy.tensor()), .to = AsMatrix(shares.tensor()), .mean = true});
  MappedGemm(
      *stream,
      {.map = *map,
       .gemm = {.a = AsMatrix(shares.tensor()), .b = AsMatrix(w.tensor()), .transpose_b = true, .c = AsMatrix(dc_of_shares.tensor())}});
  ScatterRows(*stream, {.map = *map, .c = AsMatrix(dc_of_shares.tensor()), .y = AsMatrix(again.tensor())});
  EXPECT_TRUE(AllNear(again.values(), dx.values(), {.of_largest = 1e-14}));
}

// The bound of quantized forwards: |y_m - x_m W| < delta sqrt(K) |W|_F.
TEST(ClusteredLinear, QuantizedErrorIsBounded) {
  const CpuStream stream;
  const TestTensor x = NearRows(DType::kF64), w(DType::kF64, {K, N}, RandomValues(K * N, "w"));
  const TestMap map(M);
  BuildQuantized(*stream, x, map);
  const std::vector<double> y = Forward(*stream, *map, x, w);
  TestTensor dense(DType::kF64, {M, N});
  Gemm(*stream, {.a = AsMatrix(x.tensor()), .b = AsMatrix(w.tensor()), .c = AsMatrix(dense.tensor())});
  double norm = 0;
  for (const double v : w.values()) norm += v * v;
  double worst = 0;
  for (std::int64_t m = 0; m < M; ++m) {
    double error = 0;
    for (std::int64_t n = 0; n < N; ++n) {
      const auto i = static_cast<std::size_t>(m * N + n);
      error += (y[i] - dense.values()[i]) * (y[i] - dense.values()[i]);
    }
    worst = std::max(worst, std::sqrt(error));
  }
  EXPECT_GT(worst, 0);
  EXPECT_LT(worst, std::sqrt(static_cast<double>(K) * norm));
}

// Exact mode: dW is the dense gradient but for the order of its sum. Where everything above is row-wise, as an embedding is, the gradient
// of a distinct row is the product of its sums alone: as many products as clusters, and the same as adding up the rows' gradients.
TEST(ClusteredLinear, ExactGradientsAreTheDenseOnes) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const CpuStream stream({.threads = 2});
    constexpr std::int64_t kRows = 150, kIn = 37, kOut = 50, kDistinct = 21;
    const TestTensor x(dtype, {kRows, kIn}, RepeatedRows(kRows, kIn, kDistinct, "x")), w(dtype, {kIn, kOut}, RandomValues(kIn * kOut, "w"));
    const TestTensor dy(dtype, {kRows, kOut}, RandomValues(kRows * kOut, "dy"));
    const TestMap map(kRows);
    testing::BuildExact(*stream, AsMatrix(x.tensor()), map);
    TestTensor sums(dtype, {kDistinct, kOut}), dw(dtype, {kIn, kOut}), dw_dense(dtype, {kIn, kOut}), dx(dtype, {kRows, kIn});
    TestTensor of_rows(dtype, {kDistinct, kIn}), of_sums(dtype, {kDistinct, kIn});
    SegmentSum(*stream, {.map = *map, .dy = AsMatrix(dy.tensor()), .to = AsMatrix(sums.tensor())});
    MappedGemm(*stream,
               {.map = *map,
                .over = MappedOver::kDepth,
                .gather_a = true,
                .gemm = {.a = AsMatrix(x.tensor()), .transpose_a = true, .b = AsMatrix(sums.tensor()), .c = AsMatrix(dw.tensor())}});
    Gemm(*stream, {.a = AsMatrix(x.tensor()), .transpose_a = true, .b = AsMatrix(dy.tensor()), .c = AsMatrix(dw_dense.tensor())});
    const testing::Tolerance rounding = {.of_largest = dtype == DType::kF64 ? 1e-14 : 4e-6};
    EXPECT_TRUE(AllNear(dw.values(), dw_dense.values(), rounding));

    Gemm(*stream, {.a = AsMatrix(dy.tensor()), .b = AsMatrix(w.tensor()), .transpose_b = true, .c = AsMatrix(dx.tensor())});
    SegmentSum(*stream, {.map = *map, .dy = AsMatrix(dx.tensor()), .to = AsMatrix(of_rows.tensor())});
    MappedGemm(*stream,
               {.map = *map,
                .gemm = {.a = AsMatrix(sums.tensor()), .b = AsMatrix(w.tensor()), .transpose_b = true, .c = AsMatrix(of_sums.tensor())}});
    EXPECT_TRUE(AllNear(of_sums.values(), of_rows.values(), rounding));
  }
}

}  // namespace
}  // namespace lycia
