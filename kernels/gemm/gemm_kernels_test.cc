// Every kernel that this machine can run (AMX emulated where it is missing), against the specification and against each other's promises.
#include "kernels/gemm/gemm_kernels.h"

#include <cmath>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/testing/amx_emulator.h"
#include "kernels/gemm/testing/gemm_case.h"
#include "kernels/testing/sizes.h"
#include "kernels/testing/test_tensor.h"

namespace lycia {
namespace {

using testing::CpuStream;
using testing::ExpectRight;
using testing::ForEveryKernel;
using testing::GemmCase;
using testing::GemmResult;
using testing::RandomValues;
using testing::RoundTo;
using testing::TestTensor;

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

// Sizes around every tile and unit: 1, primes, multiples of the tiles' sides and one more or less.
GemmCase RandomCase(DType dtype, std::mt19937_64& random, bool small) {
  static constexpr std::int64_t kSides[] = {1, 2, 3, 5, 6, 7, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 37, 47, 64, 65, 71};
  const auto side = [&](std::size_t most) { return kSides[random() % (small ? most : std::size(kSides))]; };
  const auto coin = [&] { return random() % 2 == 0; };
  GemmCase g = {.dtype = dtype,
                .c_dtype = dtype == DType::kBF16 && coin() ? DType::kBF16 : DType::kF32,
                .m = side(18),
                .n = side(18),
                .k = side(21),
                .padding = static_cast<std::int64_t>(random() % 3),
                .transpose_a = coin(),
                .transpose_b = coin(),
                .packed = coin(),
                .accumulate = coin(),
                .bias = coin(),
                .residual = coin(),
                .gelu = coin()};
  if (dtype == DType::kF64) g.c_dtype = dtype;
  g.save = g.gelu && coin();
  g.slope = !g.gelu && coin();
  return g;
}

TEST(GemmKernels, EqualTheSpecificationOnRandomCases) {
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
      const bool emulated = kernel.begin != nullptr && !cpu::DetectGemmFeatures().amx;
      CpuStream stream;
      std::mt19937_64 random(7);
      for (int i = 0; i < (emulated ? 60 : 400) && !::testing::Test::HasFailure(); ++i) {
        const GemmCase g = RandomCase(dtype, random, emulated);
        SCOPED_TRACE(::testing::Message() << "case " << i << ": " << g.ToString());
        ExpectRight(g, testing::Run(*stream, g));
      }
      EXPECT_EQ(testing::ConfiguredTiles(), 0);
    });
  }
}

TEST(GemmF64, EqualsTheSpecificationOnRandomCases) {
  CpuStream stream;
  std::mt19937_64 random(7);
  for (int i = 0; i < 200 && !::testing::Test::HasFailure(); ++i) {
    const GemmCase g = RandomCase(DType::kF64, random, false);
    SCOPED_TRACE(::testing::Message() << "case " << i << ": " << g.ToString());
    ExpectRight(g, testing::Run(*stream, g));
  }
}

// More than one block along the depth, the rows and the columns; the least workspace makes the blocks small.
TEST(GemmKernels, EqualTheSpecificationOverManyBlocks) {
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
      const bool emulated = kernel.begin != nullptr && !cpu::DetectGemmFeatures().amx;
      for (const std::int64_t workspace : {std::int64_t{512} << 10, std::int64_t{6} << 20}) {
        CpuStream stream({.workspace_bytes = workspace});
        for (int i = 0; i < 4 && !::testing::Test::HasFailure(); ++i) {
          GemmCase g = {.dtype = dtype, .m = 197, .n = 101, .k = 1009, .packed = i % 2 == 0, .accumulate = i == 1, .bias = i == 2};
          if (emulated) g.m = 37, g.n = 33, g.k = 1030;
          g.transpose_a = i >= 2;
          g.transpose_b = i == 1 || i == 2;
          if (dtype == DType::kBF16 && i != 1) g.c_dtype = DType::kBF16;
          SCOPED_TRACE(::testing::Message() << g.ToString() << " workspace " << workspace);
          ExpectRight(g, testing::Run(*stream, g));
        }
      }
    });
  }
}

TEST(GemmKernels, NoDepthLeavesWhatIsAdded) {
  CpuStream stream;
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel&) {
      for (const bool flag : {false, true}) {
        const GemmCase g = {.dtype = dtype, .c_dtype = dtype, .m = 3, .n = 5, .k = 0, .packed = flag, .accumulate = flag, .bias = true};
        ExpectRight(g, testing::Run(*stream, g));
      }
    });
  }
}

// What is not finite reaches its row or column of c, and nothing else: not by way of padding either, where 0 times infinity would be NaN.
TEST(GemmKernels, NanAndInfinityReachTheirRowAndColumnOnly) {
  CpuStream stream;
  constexpr std::int64_t kRows = 17, kCols = 35, kDepth = 37;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel&) {
      for (const double bad : {kInfinity, -kInfinity, std::nan("")}) {
        for (const std::int64_t at : {std::int64_t{0}, kDepth - 1}) {
          std::vector<double> values(kRows * kDepth, 1.0), ones(kDepth * kCols, 1.0);
          values[static_cast<std::size_t>(16 * kDepth + at)] = bad;  // the last row
          ones[static_cast<std::size_t>(at * kCols + 34)] = bad;     // the last column
          const TestTensor a(dtype, {kRows, kDepth}, values), b(dtype, {kDepth, kCols}, ones);
          TestTensor c(dtype, {kRows, kCols});
          Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(b.tensor()), .c = AsMatrix(c.tensor())});
          const std::vector<double> result = c.values();
          for (std::int64_t i = 0; i < kRows; ++i) {
            for (std::int64_t j = 0; j < kCols; ++j) {
              const double x = result[static_cast<std::size_t>(i * kCols + j)];
              if (i < 16 && j < 34) {
                ASSERT_EQ(x, kDepth) << i << ", " << j;
              } else if (std::isnan(bad)) {
                ASSERT_TRUE(std::isnan(x)) << i << ", " << j;
              } else {
                ASSERT_EQ(x, i == 16 && j == 34 ? kInfinity : bad) << i << ", " << j;
              }
            }
          }
        }
      }
    });
  }
}

// 1 x b with GELU, and 1 x 1 with its slope, far out where powers overflow: the limits themselves.
void ExpectLimitsOfGelu(DType dtype) {
  CpuStream stream;
  const std::vector<double> far = RoundTo(dtype, {-3e38, -1e18, -1e12, -100, -40, 40, 100, 1e12, 1e18, 3e38});
  const auto n = static_cast<std::int64_t>(far.size());
  const TestTensor one(dtype, {1, 1}, {1}), row(dtype, {1, n}, far), ones(dtype, {1, n}, std::vector<double>(far.size(), 1.0));
  TestTensor c(dtype, {1, n}), slope(dtype, {1, n});
  Gemm(*stream, {.a = AsMatrix(one.tensor()), .b = AsMatrix(row.tensor()), .c = AsMatrix(c.tensor()), .gelu = true});
  Gemm(*stream, {.a = AsMatrix(one.tensor()),
                 .b = AsMatrix(ones.tensor()),
                 .c = AsMatrix(slope.tensor()),
                 .gelu_input = ConstMatrix(AsMatrix(row.tensor()))});
  for (std::size_t i = 0; i < far.size(); ++i) {
    EXPECT_EQ(c.values()[i], far[i] > 0 ? far[i] : 0) << Name(dtype) << " GELU of " << far[i];
    EXPECT_EQ(slope.values()[i], far[i] > 0 ? 1 : 0) << Name(dtype) << " slope at " << far[i];
  }
}
TEST(GemmKernels, GeluFarOutIsItsLimit) {
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel&) { ExpectLimitsOfGelu(dtype); });
  }
  ExpectLimitsOfGelu(DType::kF64);
}

// f32 kernels keep subnormal operands and results; AVX512_BF16 and AMX count them as zero, as the processor defines it.
TEST(GemmKernels, SubnormalsAsDocumented) {
  CpuStream stream;
  for (const DType dtype : kTypes) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
      const double tiny = RoundTo(dtype, {1e-39})[0];
      const TestTensor a(dtype, {1, 1}, {tiny}), b(dtype, {1, 1}, {4});
      TestTensor c(DType::kF32, {1, 1});
      Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(b.tensor()), .c = AsMatrix(c.tensor())});
      EXPECT_EQ(c.values()[0], kernel.pairs ? 0 : 4 * tiny);
    });
  }
}

TEST(GemmKernels, TheBestIsChosenFromTheFeatures) {
  const auto name = [](DType dtype, const cpu::GemmFeatures& features) { return std::string(cpu::BestKernel(dtype, features).name); };
  EXPECT_EQ(name(DType::kF32, {}), "sse2 f32");
  EXPECT_EQ(name(DType::kBF16, {.avx2 = true}), "avx2 f32");
  EXPECT_EQ(name(DType::kF32, {.avx2 = true, .avx512 = true, .avx512_bf16 = true, .amx = true}), "avx512 f32");
  EXPECT_EQ(name(DType::kBF16, {.avx2 = true, .avx512 = true, .avx512_bf16 = true}), "avx512_bf16");
  EXPECT_EQ(name(DType::kBF16, {.avx2 = true, .avx512 = true, .avx512_bf16 = true, .slow_bf16 = true}), "avx512 f32");
  EXPECT_EQ(name(DType::kBF16, {.avx2 = true, .avx512 = true, .avx512_bf16 = true, .slow_bf16 = true, .amx = true}), "amx_bf16");
}

using GemmDeathTest = ::testing::Test;

TEST(GemmDeathTest, NamesWhatDoesNotFit) {
  CpuStream stream;
  const TestTensor a(DType::kF32, {2, 3}), half(DType::kBF16, {3, 4}), b(DType::kF32, {3, 4});
  TestTensor c(DType::kF32, {2, 4});
  EXPECT_DEATH(Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(half.tensor()), .c = AsMatrix(c.tensor())}), "a is f32, b bf16");
  EXPECT_DEATH(
      Gemm(*stream, {.a = AsMatrix(a.tensor()), .b = AsMatrix(b.tensor()), .c = AsMatrix(c.tensor()), .residual = AsMatrix(b.tensor())}),
      "residual is \\[3, 4\\], not \\[m, n\\] = \\[2, 4\\]");
  EXPECT_DEATH(Gemm(*stream, {.a = AsMatrix(a.tensor()), .c = AsMatrix(c.tensor()), .packed_b = {b.tensor().data, DType::kF32, 4, 4}}),
               "packed b is \\[4, 4\\], not \\[k, n\\] = \\[3, 4\\]");
}

}  // namespace
}  // namespace lycia
