// Products over a partition against loops in double. Rows beyond the clusters, and what the map says of them, are NaN and nonsense: a
// kernel that reads one shows it.
#include <cmath>
#include <limits>

#include "bazel/build_config.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/mapped_gemm.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

struct Size {
  std::int64_t M, U, K, N;
};
// Tiles and steps that end within themselves, operands that allow wide loads and others.
constexpr Size kSizes[] = {{1, 1, 1, 1}, {70, 9, 17, 5}, {150, 70, 40, 72}, {65, 65, 16, 64}, {260, 3, 33, 130}};

double Gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double GeluSlope(double x) { return (Gelu(x + 1e-5) - Gelu(x - 1e-5)) / 2e-5; }

class ReuseGemmTest : public KernelFixture {
 protected:
  void SetUp() override {
    if (!on_cuda()) GTEST_SKIP() << "the CPU's products have tests of their own (kernels/reuse)";
    KernelFixture::SetUp();
  }
  // A partition of M rows in U clusters, in the device's memory: row m is like row m % U; and its representatives.
  void MakeMap(const Size& s) {
    ids_.clear();
    Values names;
    for (std::int64_t m = 0; m < s.M; ++m) names.push_back(static_cast<double>(m % s.U)), ids_.push_back(m % s.U);
    const Tensor memory = Poisoned(DType::kU8, {IndexMapBytes(s.M)});
    map_ = IndexMapIn(memory.data, MapDim::kM, MapKind::kPartition, s.M);
    const Tensor workspace = Poisoned(DType::kU8, {BuildIndexMapBytes({}, DType::kF32, s.M)});
    BuildIndexMap(*stream_, {.rows = AsMatrix(ConstTensor(Put(names, DType::kF32, {s.M, 1}))), .map = map_, .workspace = workspace.data});
  }
  // M rows, of which those from U on are NaN.
  static Values Compact(std::int64_t M, std::int64_t U, std::int64_t cols, const char* name, DType dtype) {
    Values values = Random(M * cols, name, dtype);
    for (std::size_t i = static_cast<std::size_t>(U * cols); i < values.size(); ++i) values[i] = std::numeric_limits<double>::quiet_NaN();
    return values;
  }
  static Values FirstRows(const Values& values, std::int64_t rows, std::int64_t cols) {
    return {values.begin(), values.begin() + rows * cols};
  }
  // [rows, K] [K, N], b stored [N, K] where transposed.
  static Values Product(const Values& a, const Values& b, bool transpose_b, std::int64_t rows, std::int64_t K, std::int64_t N) {
    Values c(static_cast<std::size_t>(rows * N));
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < N; ++j) {
        for (std::int64_t k = 0; k < K; ++k) {
          c[static_cast<std::size_t>(i * N + j)] +=
              a[static_cast<std::size_t>(i * K + k)] * b[static_cast<std::size_t>(transpose_b ? j * K + k : k * N + j)];
        }
      }
    }
    return c;
  }

  IndexMap map_;
  std::vector<std::int64_t> ids_;
};

// The CPU's products have tests of their own.
void Multiply([[maybe_unused]] Stream& stream, [[maybe_unused]] const MappedGemmArgs& args) {
  if constexpr (kCudaEnabled) cuda::MappedGemm(stream, args);
}

struct Types {
  DType in, out;
};
constexpr Types kTypes[] = {{DType::kF32, DType::kF32}, {DType::kBF16, DType::kBF16}, {DType::kBF16, DType::kF32},
                            {DType::kF16, DType::kF16}, {DType::kF16, DType::kF32},   {DType::kF64, DType::kF64}};

TEST_P(ReuseGemmTest, RowsAreThoseOfTheClusters) {
  for (const Types& t : kTypes) {
    for (const Size& s : kSizes) {
      for (const bool transpose_b : {false, true}) {
        for (const bool gather : {false, true}) {
          SCOPED_TRACE(::testing::Message() << Name(t.in) << ' ' << Name(t.out) << ' ' << s.M << ' ' << s.U << ' ' << s.K << ' ' << s.N
                                            << (transpose_b ? " transposed" : "") << (gather ? " gathered" : ""));
          MakeMap(s);
          // Gathered, row j is the first row of cluster j, which is j; other rows are never read.
          const Values a = Compact(s.M, s.U, s.K, "a", t.in), b = Random(s.K * s.N, "b", t.in), bias = Random(s.N, "bias", t.out);
          const Tensor c = Poisoned(t.out, {s.M, s.N}), y = Poisoned(t.out, {s.M, s.N});
          const Tensor in = Put(a, t.in, {s.M, s.K}), weight = transpose_b ? Put(b, t.in, {s.N, s.K}) : Put(b, t.in, {s.K, s.N});
          MappedGemmArgs args{.map = map_,
                              .gather_a = gather,
                              .gemm = {.a = AsMatrix(ConstTensor(in)),
                                       .b = AsMatrix(ConstTensor(weight)),
                                       .transpose_b = transpose_b,
                                       .c = AsMatrix(c),
                                       .bias = Put(bias, t.out, {s.N})}};
          Multiply(*stream_, args);
          Values expected = Product(a, b, transpose_b, s.U, s.K, s.N);
          for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % static_cast<std::size_t>(s.N)];
          const Tensor compact{c.data, t.out, {s.U, s.N}};
          ExpectNear("rows", compact, expected, {.of_largest = 1e-5});
          const std::string bytes = Bytes(c);
          for (auto i = static_cast<std::size_t>(compact.bytes()); i < bytes.size(); ++i) ASSERT_EQ(bytes[i], '\xff') << i;
          // Every row of y has its cluster's, to the bit.
          args.scattered = AsMatrix(y);
          Multiply(*stream_, args);
          const Values rows = Get(compact), spread = Get(y);
          for (std::size_t i = 0; i < spread.size(); ++i) {
            const auto N = static_cast<std::size_t>(s.N);
            ASSERT_EQ(spread[i], rows[static_cast<std::size_t>(ids_[i / N]) * N + i % N]) << i;
          }
          Release();
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(ReuseGemmTest, WhatFollowsASumIsTheDenseProducts) {
  constexpr Size s{150, 70, 24, 40};
  for (const Types& t : kTypes) {
    SCOPED_TRACE(::testing::Message() << Name(t.in) << ' ' << Name(t.out));
    const double rounded = t.out == DType::kBF16 ? 0.01 : t.out == DType::kF16 ? 0.01 / 8 : 0;
    MakeMap(s);
    const Values a = Compact(s.M, s.U, s.K, "a", t.in), b = testing::RoundTo(t.in, testing::RandomValues(s.K * s.N, "b", 0.3)),
                 beside = Compact(s.M, s.U, s.N, "beside", t.out), slopes = Compact(s.M, s.U, s.N, "slopes", t.out);
    const Tensor in = Put(a, t.in, {s.M, s.K}), weight = Put(b, t.in, {s.K, s.N}), residual = Put(beside, t.out, {s.M, s.N}),
                 gelu_input = Put(slopes, t.out, {s.M, s.N}), c = Poisoned(t.out, {s.M, s.N}), pre = Poisoned(t.out, {s.M, s.N});
    const GemmArgs plain{.a = AsMatrix(ConstTensor(in)), .b = AsMatrix(ConstTensor(weight)), .c = AsMatrix(c)};
    const Tensor compact{c.data, t.out, {s.U, s.N}};
    const testing::Tolerance near{.of_largest = rounded > 0 ? rounded : 1e-5};
    const Values sums = Product(a, b, false, s.U, s.K, s.N);

    GemmArgs gemm = plain;
    gemm.gelu = true;
    gemm.pre_activation = AsMatrix(pre);
    gemm.residual = AsMatrix(ConstTensor(residual));
    Multiply(*stream_, {.map = map_, .gemm = gemm});
    Values expected = sums;
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = Gelu(sums[i]) + beside[i];
    ExpectNear("GELU and residual", compact, expected, near);
    ExpectNear("GELU's input", {pre.data, t.out, {s.U, s.N}}, sums, {.of_largest = 1e-5});

    gemm = plain;
    gemm.gelu_input = AsMatrix(ConstTensor(gelu_input));
    Multiply(*stream_, {.map = map_, .gemm = gemm});
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = sums[i] * GeluSlope(slopes[i]);
    EXPECT_TRUE(testing::AllNear(Get(compact), expected, near, compact.shape)) << "GELU's slope";

    const Values before = Get(compact);
    gemm = plain;
    gemm.accumulate = true;
    Multiply(*stream_, {.map = map_, .gemm = gemm});
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = before[i] + sums[i];
    ExpectNear("accumulated", compact, expected, near);
    Release();
    if (HasFailure()) return;
  }
}

TEST_P(ReuseGemmTest, DepthIsThatOfTheClusters) {
  for (const Types& t : kTypes) {
    if (SizeOf(t.out) == 2) continue;  // gradients are f32
    for (const Size& s : kSizes) {
      for (const bool gather : {false, true}) {
        for (const bool accumulate : {false, true}) {
          SCOPED_TRACE(::testing::Message() << Name(t.in) << ' ' << s.M << ' ' << s.U << ' ' << s.K << ' ' << s.N
                                            << (gather ? " gathered" : "") << (accumulate ? " +=" : ""));
          MakeMap(s);
          const Values a = Compact(s.M, s.U, s.K, "a", t.in), b = Compact(s.M, s.U, s.N, "b", t.in);
          Values expected(static_cast<std::size_t>(s.K * s.N), accumulate ? 0.5 : 0);
          const Tensor dw = accumulate ? Put(expected, t.out, {s.K, s.N}) : Poisoned(t.out, {s.K, s.N});
          for (std::int64_t u = 0; u < s.U; ++u) {
            for (std::size_t i = 0; i < expected.size(); ++i) {
              const auto m = static_cast<std::int64_t>(i) / s.N, n = static_cast<std::int64_t>(i) % s.N;
              expected[i] += a[static_cast<std::size_t>(u * s.K + m)] * b[static_cast<std::size_t>(u * s.N + n)];
            }
          }
          const Tensor in = Put(a, t.in, {s.M, s.K}), sums = Put(b, t.in, {s.M, s.N});
          Multiply(*stream_, {.map = map_,
                              .over = MappedOver::kDepth,
                              .gather_a = gather,
                              .gemm = {.a = AsMatrix(ConstTensor(in)),
                                       .transpose_a = true,
                                       .b = AsMatrix(ConstTensor(sums)),
                                       .c = AsMatrix(dw),
                                       .accumulate = accumulate}});
          ExpectNear("dW", dw, expected, {.of_largest = 1e-5});
          Release();
          if (HasFailure()) return;
        }
      }
    }
  }
}

// A row's bits are the same beside few others and beside many.
TEST_P(ReuseGemmTest, ARowDoesNotDependOnHowManyThereAre) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    std::string few;
    for (const std::int64_t U : {3, 140}) {
      const Size s{150, U, 72, 48};
      MakeMap(s);
      Values a = Random(150 * s.K, "a", dtype);
      const Tensor in = Put(a, dtype, {s.M, s.K}), weight = Put(Random(s.K * s.N, "b", dtype), dtype, {s.K, s.N}),
                   c = Poisoned(dtype, {s.M, s.N});
      Multiply(*stream_,
               {.map = map_, .gemm = {.a = AsMatrix(ConstTensor(in)), .b = AsMatrix(ConstTensor(weight)), .c = AsMatrix(c)}});
      const std::string rows = Bytes({c.data, dtype, {3, s.N}});
      if (few.empty()) few = rows;
      EXPECT_EQ(rows, few) << Name(dtype);
    }
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(ReuseGemmTest);

}  // namespace
}  // namespace lycia
