// Matrix products on CUDA against their specification in f64: types, transposes, leading dimensions, and everything that may follow a
// product, alone and together, on random sizes.
#include "kernels/gemm/gemm.h"

#include <cmath>
#include <tuple>
#include <utility>

#include "kernels/gemm/gemm_ref.h"
#include "runtime/core/philox.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

class GemmCudaTest : public KernelFixture {
 protected:
  void SetUp() override {
    if (!on_cuda()) GTEST_SKIP() << "the CPU's products have tests of their own (kernels/gemm)";
    KernelFixture::SetUp();
  }
  // Rows of `cols` between columns that no product may touch.
  struct Padded {
    Tensor tensor;
    Matrix matrix;
  };
  Padded PutMatrix(const Values& values, DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t pad, int skip = 0) {
    const std::int64_t ld = cols + pad;
    Values padded(static_cast<std::size_t>(rows * ld), NAN);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) padded[static_cast<std::size_t>(r * ld + c)] = values[static_cast<std::size_t>(r * cols + c)];
    }
    const Tensor tensor = Put(padded, dtype, {rows, ld}, skip);
    return {tensor, {tensor.data, dtype, rows, cols, ld}};
  }
  void ExpectMatrix(const char* what, const Padded& padded, const Values& expected, double of_largest) {
    const auto [rows, cols, ld] = std::tuple(padded.matrix.rows, padded.matrix.cols, padded.matrix.ld);
    const Values all = Get(padded.tensor);
    Values inside;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < ld; ++c) {
        const double x = all[static_cast<std::size_t>(r * ld + c)];
        if (c < cols) {
          inside.push_back(x);
        } else {
          EXPECT_TRUE(std::isnan(x)) << what << ": written behind row " << r;
        }
      }
    }
    const testing::Tolerance f32{.of_largest = of_largest}, f64{.of_largest = 1e-14};
    EXPECT_TRUE(testing::AllNear(inside, expected, testing::StoredTolerance(padded.matrix.dtype, f32, f64), Shape{rows, cols})) << what;
  }
};

struct Case {
  std::int64_t m, n, k;
  DType in = DType::kF32, out = DType::kF32, side = DType::kF32;  // side: of bias, residual, pre_activation and gelu_input
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false, residual = false, gelu = false, pre = false,
       slope = false;
  std::int64_t pad = 0;
  int skip = 0;
};
std::string Describe(const Case& c) {
  return StrCat(c.m, " x ", c.n, " x ", c.k, " ", Name(c.in), "->", Name(c.out), " side ", Name(c.side), c.transpose_a ? " aT" : "",
                c.transpose_b ? " bT" : "", c.accumulate ? " +=" : "", c.bias ? " bias" : "", c.gelu ? " gelu" : "", c.pre ? " pre" : "",
                c.slope ? " slope" : "", c.residual ? " residual" : "", " pad ", c.pad, " skip ", c.skip);
}

class GemmCudaCases : public GemmCudaTest {
 protected:
  void Check(const Case& z) {
    SCOPED_TRACE(Describe(z));
    const Values a = Random(z.m * z.k, "a", z.in), b = Random(z.k * z.n, "b", z.in), before = Random(z.m * z.n, "before", z.out, 2);
    const Values bias = Random(z.n, "bias", z.side);
    const Values residual = z.residual ? Random(z.m * z.n, "residual", z.side) : Values();
    const Values input = z.slope ? Random(z.m * z.n, "input", z.side) : Values();
    Values sum = before, expected(sum.size());
    reference::Gemm<double>(z.m, z.n, z.k, a.data(), z.transpose_a, b.data(), z.transpose_b, sum.data(), z.accumulate,
                            z.bias ? bias.data() : nullptr);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      expected[i] = reference::GemmEpilogue(sum[i], z.gelu, z.slope ? &input[i] : nullptr, z.residual ? &residual[i] : nullptr);
    }
    const Padded pa = z.transpose_a ? PutMatrix(a, z.in, z.k, z.m, z.pad, z.skip) : PutMatrix(a, z.in, z.m, z.k, z.pad, z.skip);
    const Padded pb = z.transpose_b ? PutMatrix(b, z.in, z.n, z.k, z.pad) : PutMatrix(b, z.in, z.k, z.n, z.pad);
    const Padded c = PutMatrix(before, z.out, z.m, z.n, z.pad);
    const Padded pre = z.pre ? PutMatrix(before, z.side, z.m, z.n, z.pad) : Padded{};
    GemmArgs args{.a = pa.matrix,
                  .transpose_a = z.transpose_a,
                  .b = pb.matrix,
                  .transpose_b = z.transpose_b,
                  .c = c.matrix,
                  .accumulate = z.accumulate};
    if (z.bias) args.bias = Put(bias, z.side, {z.n});
    if (z.residual) args.residual = PutMatrix(residual, z.side, z.m, z.n, z.pad).matrix;
    if (z.slope) args.gelu_input = PutMatrix(input, z.side, z.m, z.n, z.pad).matrix;
    if (z.pre) args.pre_activation = pre.matrix;
    args.gelu = z.gelu;
    cuda::Gemm(*stream_, args);
    ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();
    // f32 sums of k products of normal numbers; GELU of a sum that bf16 or f16 rounds first moves by as much as that rounding.
    const double f32 = 3e-7 * std::sqrt(static_cast<double>(z.k + 1)) + 1e-6;
    double rounded = 0;
    if (z.gelu && z.out == DType::kBF16) rounded = 0x1p-8;
    if (z.gelu && z.out == DType::kF16) rounded = 0x1p-11;
    ExpectMatrix("c", c, expected, f32 + rounded);
    if (z.pre) ExpectMatrix("pre_activation", pre, sum, f32);
    Release();
  }
};

TEST_P(GemmCudaCases, TypesTransposesAndLeadingDimensions) {
  for (const auto& [in, out] : {std::pair{DType::kF32, DType::kF32},
                                {DType::kBF16, DType::kBF16},
                                {DType::kBF16, DType::kF32},
                                {DType::kF16, DType::kF16},
                                {DType::kF16, DType::kF32},
                                {DType::kF64, DType::kF64}}) {
    for (const int t : {0, 1, 2, 3}) {
      for (const bool accumulate : {false, true}) {
        for (const std::int64_t pad : {0, 3, 8}) {
          Check({.m = 17,
                 .n = 33,
                 .k = 9,
                 .in = in,
                 .out = out,
                 .side = out,
                 .transpose_a = t % 2 == 1,
                 .transpose_b = t >= 2,
                 .accumulate = accumulate,
                 .pad = pad,
                 .skip = pad == 3 ? 1 : 0});
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(GemmCudaCases, WhatFollowsAProduct) {
  for (const auto& [in, out, side] : {std::tuple{DType::kF32, DType::kF32, DType::kF32},
                                      {DType::kBF16, DType::kBF16, DType::kBF16},
                                      {DType::kBF16, DType::kF32, DType::kBF16},
                                      {DType::kBF16, DType::kBF16, DType::kF32},
                                      {DType::kF16, DType::kF16, DType::kF16},
                                      {DType::kF16, DType::kF16, DType::kF32},
                                      {DType::kF64, DType::kF64, DType::kF64}}) {
    for (int bits = 0; bits < 64; ++bits) {
      Check({.m = 13,
             .n = 24,
             .k = bits == 63 ? 0 : 20,
             .in = in,
             .out = out,
             .side = side,
             .transpose_b = bits % 3 == 1,
             .accumulate = (bits & 1) != 0,
             .bias = (bits & 2) != 0,
             .residual = (bits & 4) != 0,
             .gelu = (bits & 8) != 0,
             .pre = (bits & 16) != 0,
             .slope = (bits & 32) != 0,
             .pad = bits % 5 == 0 ? 3 : 8});
      if (HasFailure()) return;
    }
  }
}

TEST_P(GemmCudaCases, RandomProducts) {
  const RandomStream random(5, "gemm", 0);
  std::uint64_t next = 0;
  const auto draw = [&](std::int64_t below) { return static_cast<std::int64_t>(random.Uniform(next++) * static_cast<double>(below)); };
  for (int i = 0; i < 60; ++i) {
    const DType in = draw(2) == 0 ? DType::kBF16 : DType::kF32, out = in == DType::kF32 || draw(2) == 0 ? DType::kF32 : DType::kBF16;
    Check({.m = 1 + draw(80),
           .n = 1 + draw(80),
           .k = draw(70),
           .in = in,
           .out = out,
           .side = in == DType::kBF16 && draw(2) == 0 ? DType::kBF16 : out,
           .transpose_a = draw(2) == 0,
           .transpose_b = draw(2) == 0,
           .accumulate = draw(2) == 0,
           .bias = draw(2) == 0,
           .residual = draw(2) == 0,
           .gelu = draw(2) == 0,
           .pre = draw(3) == 0,
           .slope = draw(4) == 0,
           .pad = draw(9),
           .skip = static_cast<int>(draw(3))});
    if (HasFailure()) return;
  }
}

// dw += xᵀ dy and db += the sums of dy, of all types, aligned and not, one after the other into the same sums.
TEST_P(GemmCudaCases, WeightGradientsWithTheBias) {
  for (const auto& [in, out] : {std::pair{DType::kF32, DType::kF32}, {DType::kBF16, DType::kF32}, {DType::kF64, DType::kF64}}) {
    for (const std::int64_t pad : {0, 3, 8}) {
      for (const auto& [rows, k, n] : {std::tuple{std::int64_t{65}, std::int64_t{24}, std::int64_t{40}}, {300, 7, 129}, {1, 8, 8}}) {
        SCOPED_TRACE(::testing::Message() << Name(in) << ' ' << rows << " rows, " << k << " x " << n << ", pad " << pad);
        const Values x = Random(rows * k, "x", in), dy = Random(rows * n, "dy", in), dw_before = Random(k * n, "dw", out);
        const Values db_before = Random(n, "db", out);
        Values dw_expected = dw_before, db_expected = db_before;
        for (int i = 0; i < 2; ++i) {
          reference::Gemm<double>(k, n, rows, x.data(), true, dy.data(), false, dw_expected.data(), true, nullptr);
          reference::BiasGradient(rows, n, dy.data(), db_expected.data());
        }
        const Padded px = PutMatrix(x, in, rows, k, pad), pdy = PutMatrix(dy, in, rows, n, pad), dw = PutMatrix(dw_before, out, k, n, pad);
        const Tensor db = Put(db_before, out, {n}, pad == 3 ? 1 : 0);
        for (int i = 0; i < 2; ++i) {
          cuda::Gemm(*stream_, {.a = px.matrix, .transpose_a = true, .b = pdy.matrix, .c = dw.matrix, .accumulate = true, .b_sums = db});
        }
        ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();
        const double f32 = 6e-7 * std::sqrt(static_cast<double>(rows)) + 1e-6;
        ExpectMatrix("dw", dw, dw_expected, f32);
        EXPECT_TRUE(testing::AllNear(Get(db), db_expected, testing::StoredTolerance(out, {.of_largest = f32}, {.of_largest = 1e-14})));
        Release();
      }
    }
  }
}

// bf16 that may be rounded once only goes through f32 scratch, in strips of rows.
TEST_P(GemmCudaCases, ScratchInStrips) {
  Check({.m = 3, .n = 2796203, .k = 1, .in = DType::kBF16, .out = DType::kBF16, .side = DType::kF32, .accumulate = true, .bias = true});
}

LYCIA_INSTANTIATE_KERNEL_TESTS(GemmCudaCases);

}  // namespace
}  // namespace lycia
