// What must not change a bit of a product, and what a product must not do: allocate.
#include <array>
#include <cmath>

#include "gtest/gtest.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"
#include "kernels/gemm/testing/gemm_case.h"
#include "kernels/testing/test_tensor.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia {
namespace {

using testing::CpuStream;
using testing::ForEveryKernel;
using testing::GemmCase;
using testing::GemmResult;
using testing::RandomValues;
using testing::TestTensor;

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

// Threads, blocks, packing: none of it may change a bit.
TEST(GemmBits, SameBitsForAnyThreadsWorkspaceAndPacking) {
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
      const bool emulated = kernel.begin != nullptr && !cpu::DetectGemmFeatures().amx;
      for (const DType c_dtype : {DType::kF32, dtype}) {
        GemmCase g = {.dtype = dtype, .c_dtype = c_dtype, .m = 97, .n = 151, .k = 811, .accumulate = true, .bias = true, .gelu = true};
        if (emulated) g.m = 37, g.n = 34, g.k = 520;
        const GemmResult one = testing::Run(*CpuStream(), g);
        for (const int threads : {2, 3}) {
          const CpuStream stream({.threads = threads});
          EXPECT_EQ(testing::Run(*stream, g), one) << threads << " threads";
        }
        EXPECT_EQ(testing::Run(*CpuStream({.workspace_bytes = 512 << 10}), g), one) << "small blocks";
        g.packed = true;
        EXPECT_EQ(testing::Run(*CpuStream({.threads = 2}), g), one) << "packed";
      }
    });
  }
}

// A row of c is the same whether its matrix has one row or many, a column likewise: pipelines cut micro-batches, grids cut matrices.
TEST(GemmBits, ARowsBitsDependOnThatRowAlone) {
  CpuStream stream;
  constexpr std::int64_t kRows = 45, kCols = 70, kDepth = 500;
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel&) {
      const TestTensor a(dtype, {kRows, kDepth}, RandomValues(kRows * kDepth, "a")),
          b(dtype, {kDepth, kCols}, RandomValues(kDepth * kCols, "b"));
      TestTensor whole(DType::kF32, {kRows, kCols});
      const ConstMatrix all_a = AsMatrix(a.tensor()), all_b = AsMatrix(b.tensor());
      Gemm(*stream, {.a = all_a, .b = all_b, .c = AsMatrix(whole.tensor())});
      const auto element_bytes = SizeOf(dtype);
      for (const auto& [row, rows, col, cols] :
           {std::array<std::int64_t, 4>{0, 1, 0, 70}, {44, 1, 0, 70}, {3, 14, 0, 70}, {9, 33, 33, 31}, {0, 45, 69, 1}}) {
        TestTensor part(DType::kF32, {rows, cols});
        ConstMatrix part_a = all_a, part_b = all_b;
        part_a.data = static_cast<const char*>(a.tensor().data) + row * kDepth * element_bytes;
        part_a.rows = rows;
        part_b.data = static_cast<const char*>(b.tensor().data) + col * element_bytes;
        part_b.cols = cols;
        Gemm(*stream, {.a = part_a, .b = part_b, .c = AsMatrix(part.tensor())});
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < cols; ++j) {
            ASSERT_EQ(part.as<float>()[i * cols + j], whole.as<float>()[(row + i) * kCols + col + j]) << row + i << ", " << col + j;
          }
        }
      }
    });
  }
}

// Rounded in registers or by the epilogue, whole tiles and parts, of one block of the depth and of three: subnormals, infinities of either
// sign and NaNs among them.
TEST(GemmBits, ABf16ResultIsTheF32ResultRounded) {
  constexpr std::int64_t kRows = 45, kCols = 70;
  CpuStream stream;
  for (const std::int64_t depth : {1, 64, 768, 1700}) {
    auto left = RandomValues(kRows * depth, "a"), right = RandomValues(depth * kCols, "b");
    for (std::int64_t k = 0; k < depth; ++k) {
      left[static_cast<std::size_t>(3 * depth + k)] *= 1e-30;
      left[static_cast<std::size_t>(17 * depth + k)] = 1e38;
      left[static_cast<std::size_t>(44 * depth + k)] = 0;
      right[static_cast<std::size_t>(k * kCols + 5)] = -9.0;
      right[static_cast<std::size_t>(k * kCols + 40)] *= 1e-8;
    }
    left[static_cast<std::size_t>(30 * depth)] = std::nan("");
    const TestTensor a(DType::kBF16, {kRows, depth}, left), b(DType::kBF16, {depth, kCols}, right);
    testing::ForEveryKernel(DType::kBF16, [&](const cpu::MicroKernel& kernel) {
      SCOPED_TRACE(::testing::Message() << kernel.name << " depth " << depth);
      TestTensor sums(DType::kF32, {kRows, kCols}), rounded(DType::kBF16, {kRows, kCols});
      Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(b.tensor()), .c = AsMatrix(sums.tensor())});
      Convert(*stream, {.in = sums, .out = rounded});
      for (const std::int64_t ld : {std::int64_t{96}, kCols}) {  // rows at cache lines, and elsewhere
        TestTensor direct(DType::kBF16, {kRows, ld}, std::vector<double>(static_cast<std::size_t>(kRows * ld), 7));
        Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(b.tensor()), .c = {direct.tensor().data, DType::kBF16, kRows, kCols, ld}});
        int infinite = 0, undefined = 0;
        for (std::int64_t i = 0; i < kRows; ++i) {
          for (std::int64_t j = 0; j < kCols; ++j) {
            const BFloat16 expected = rounded.as<BFloat16>()[i * kCols + j];
            infinite += std::isinf(static_cast<float>(expected));
            undefined += std::isnan(static_cast<float>(expected));
            ASSERT_EQ(direct.as<BFloat16>()[i * ld + j].bits, expected.bits) << i << ", " << j << " ld " << ld;
          }
          for (std::int64_t j = kCols; j < ld; ++j) ASSERT_EQ(static_cast<float>(direct.as<BFloat16>()[i * ld + j]), 7) << i << ", " << j;
        }
        EXPECT_GT(infinite, 0);
        EXPECT_GE(undefined, kCols);
      }
    });
  }
}

// The BLAS chooses its way by shape and orientation; on a packed matrix it takes the same.
TEST(GemmBits, DoNotDependOnPackingInF64) {
  const CpuStream stream;
  for (const std::int64_t m : {1, 3, 24, 65}) {
    for (const std::int64_t n : {1, 8, 10, 70}) {
      for (const std::int64_t k : {1, 8, 72, 301}) {
        for (const bool transpose_b : {false, true}) {
          GemmCase g = {.dtype = DType::kF64, .c_dtype = DType::kF64, .m = m, .n = n, .k = k, .padding = 2, .transpose_b = transpose_b};
          const GemmResult plain = testing::Run(*stream, g);
          g.packed = true;
          EXPECT_TRUE(testing::Run(*stream, g) == plain) << g.ToString();
        }
      }
    }
  }
}

TEST(GemmBits, AllocateNothing) {
  constexpr std::int64_t kSide = 200;
  for (const DType dtype : kTypes) {
    const CpuStream stream({.threads = 2});
    const TestTensor a(dtype, {kSide, kSide}, RandomValues(kSide * kSide, "a"));
    TestTensor c(dtype, {kSide, kSide});
    const TestTensor memory(DType::kU8, {PackedMatrixBytes(dtype, kSide, kSide)});
    const PackedMatrix packed = {memory.tensor().data, dtype, kSide, kSide};
    std::int64_t worker[2] = {};
    const auto count = [&](int i) {
      stream->pool()->Run([&](int thread) {
        if (thread == 1) worker[i] = testing::AllocationsOfThisThread();
      });
    };
    const auto step = [&] {
      PackMatrix(*stream, {.b = AsMatrix(a.tensor()), .to = packed});
      Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(a.tensor()), .transpose_b = true, .c = AsMatrix(c.tensor())});
      Gemm(*stream, {.a = AsMatrix(a.tensor()), .transpose_a = true, .c = AsMatrix(c.tensor()), .accumulate = true, .packed_b = packed});
    };
    step();
    count(0);
    const std::int64_t before = testing::AllocationsOfThisThread();
    step();
    EXPECT_EQ(testing::AllocationsOfThisThread(), before);
    count(1);
    EXPECT_EQ(worker[0], worker[1]);
  }
}

}  // namespace
}  // namespace lycia
