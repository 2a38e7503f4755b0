// Products over a partition: what the dense product gives, to the bit, by every micro kernel.
#include "kernels/reuse/mapped_gemm.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/gemm/testing/gemm_case.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/scatter.h"
#include "kernels/reuse/testing/reuse_case.h"
#include "kernels/testing/compare.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia {
namespace {

using testing::AllNear;
using testing::CpuStream;
using testing::ForEveryKernel;
using testing::RandomValues;
using testing::RepeatedRows;
using testing::StoredTolerance;
using testing::TestMap;
using testing::TestTensor;

struct Size {
  std::int64_t rows, depth, cols, distinct;
};
// One row, fewer rows than a tile, prime sizes, depths of one block and of several, clusters fewer than a tile and as many as rows.
constexpr Size kSizes[] = {{1, 1, 1, 1},       {2, 3, 5, 1},       {33, 17, 31, 7},  {130, 67, 70, 13},
                           {97, 811, 151, 40}, {70, 1030, 33, 70}, {257, 64, 96, 1}, {200, 500, 130, 101}};

// A linear layer with everything that a forward may ask for, dense and by clusters.
struct Forward {
  Forward(Stream& stream, DType dtype, DType c_dtype, const Size& size, bool gather, bool packed, bool gelu)
      : size(size),
        map(size.rows),
        x(dtype, {size.rows, size.depth}, RepeatedRows(size.rows, size.depth, size.distinct, "x")),
        w(dtype, {size.depth, size.cols}, RandomValues(size.depth * size.cols, "w")),
        bias(c_dtype, {size.cols}, RandomValues(size.cols, "bias")),
        compact(dtype, {size.rows, size.depth}),
        c(c_dtype, {size.rows, size.cols}),
        c_pre(c_dtype, {size.rows, size.cols}),
        y(c_dtype, {size.rows, size.cols}),
        pre(c_dtype, {size.rows, size.cols}),
        dense(c_dtype, {size.rows, size.cols}),
        dense_pre(c_dtype, {size.rows, size.cols}),
        memory(DType::kU8, {PackedMatrixBytes(dtype, size.depth, size.cols)}) {
    testing::BuildExact(stream, AsMatrix(x.tensor()), map);
    GemmArgs args = {.a = AsMatrix(x.tensor()), .b = AsMatrix(w.tensor()), .c = AsMatrix(dense.tensor()), .bias = bias, .gelu = gelu};
    if (gelu) args.pre_activation = AsMatrix(dense_pre.tensor());
    if (packed) {
      args.packed_b = {memory.tensor().data, dtype, size.depth, size.cols};
      PackMatrix(stream, {.b = args.b, .to = args.packed_b});
    }
    Gemm(stream, args);
    if (!gather) {
      GatherRows(stream, {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(compact.tensor())});
      args.a = AsMatrix(compact.tensor());
    }
    args.c = AsMatrix(c.tensor());
    if (gelu) args.pre_activation = AsMatrix(c_pre.tensor());
    MappedGemm(stream, {.map = *map, .gather_a = gather, .gemm = args});
    ScatterRows(stream, {.map = *map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor())});
    if (gelu) ScatterRows(stream, {.map = *map, .c = AsMatrix(c_pre.tensor()), .y = AsMatrix(pre.tensor())});
  }
  // Rows from U on were NaN and are.
  bool LeftAlone() const {
    const std::vector<double> values = c.values();
    return std::all_of(values.begin() + map.size() * size.cols, values.end(), [](double v) { return v != v; });
  }

  Size size;
  TestMap map;
  TestTensor x, w, bias, compact, c, c_pre, y, pre, dense, dense_pre, memory;
};

TEST(MappedGemm, ForwardHasTheBitsOfTheDenseProduct) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) {
      const bool emulated = kernel.begin != nullptr && !cpu::DetectGemmFeatures().amx;
      for (const Size& size : kSizes) {
        if (emulated && size.rows * size.depth * size.cols > 1 << 20) continue;
        for (const DType c_dtype : {DType::kF32, dtype}) {
          for (int variant = 0; variant < 8; ++variant) {
            const int threads = 1 + variant % 2;
            SCOPED_TRACE(::testing::Message() << Name(dtype) << " -> " << Name(c_dtype) << " [" << size.rows << ", " << size.depth << "] x "
                                              << size.cols << " of " << size.distinct << " variant " << variant);
            const CpuStream stream({.threads = threads});
            const Forward f(*stream, dtype, c_dtype, size, (variant & 1) != 0, (variant & 2) != 0, (variant & 4) != 0);
            EXPECT_EQ(f.map.size(), size.distinct);
            EXPECT_EQ(f.y.values(), f.dense.values());
            if ((variant & 4) != 0) {
              EXPECT_EQ(f.pre.values(), f.dense_pre.values());
            }
            EXPECT_TRUE(f.LeftAlone());
          }
        }
      }
    });
  }
}

// The BLAS promises no bits; rounding is all that may differ.
TEST(MappedGemm, ForwardInF64EqualsTheDenseProduct) {
  for (const Size& size : kSizes) {
    for (const bool gather : {false, true}) {
      for (const bool packed : {false, true}) {
        const CpuStream stream;
        const Forward f(*stream, DType::kF64, DType::kF64, size, gather, packed, true);
        EXPECT_TRUE(AllNear(f.y.values(), f.dense.values(), {.of_largest = 1e-14}));
        EXPECT_TRUE(AllNear(f.pre.values(), f.dense_pre.values(), {.of_largest = 1e-14}));
      }
    }
  }
}

// c [m, n] (+)= the sum over clusters of a's row, transposed, and b's, against f64, and the same bits for any number of threads.
TEST(MappedGemm, DepthIsTheClusters) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    const auto check = [&](bool emulated) {
      for (const Size& size : kSizes) {
        if (emulated && size.rows * size.depth * size.cols > 1 << 20) continue;
        for (int variant = 0; variant < 4; ++variant) {
          const bool gather = (variant & 1) != 0, accumulate = (variant & 2) != 0;
          SCOPED_TRACE(::testing::Message() << Name(dtype) << " [" << size.rows << ", " << size.depth << "] x " << size.cols << " of "
                                            << size.distinct << " variant " << variant);
          const CpuStream one, three({.threads = 3});
          const TestTensor x(dtype, {size.rows, size.depth}, RepeatedRows(size.rows, size.depth, size.distinct, "x"));
          const TestMap map(size.rows);
          testing::BuildExact(*one, AsMatrix(x.tensor()), map);
          TestTensor compact(dtype, {size.rows, size.depth});
          GatherRows(*one, {.map = *map, .x = AsMatrix(x.tensor()), .to = AsMatrix(compact.tensor())});
          const TestTensor s(dtype, {size.rows, size.cols}, RandomValues(size.rows * size.cols, "s"));  // rows from U on must not count
          const DType sums = ArithmeticDType(dtype);
          const std::vector<double> before = testing::RoundTo(sums, RandomValues(size.depth * size.cols, "dw"));
          TestTensor dw = accumulate ? TestTensor(sums, {size.depth, size.cols}, before) : TestTensor(sums, {size.depth, size.cols});
          TestTensor again = accumulate ? TestTensor(sums, {size.depth, size.cols}, before) : TestTensor(sums, {size.depth, size.cols});
          MappedGemmArgs args = {.map = *map,
                                 .over = MappedOver::kDepth,
                                 .gather_a = gather,
                                 .gemm = {.a = AsMatrix(gather ? x.tensor() : compact.tensor()),
                                          .transpose_a = true,
                                          .b = AsMatrix(s.tensor()),
                                          .c = AsMatrix(dw.tensor()),
                                          .accumulate = accumulate}};
          MappedGemm(*one, args);
          args.gemm.c = AsMatrix(again.tensor());
          MappedGemm(*three, args);
          std::vector<double> expected = accumulate ? before : std::vector<double>(before.size());
          const std::vector<double> a = compact.values(), b = s.values();
          for (std::int64_t j = 0; j < map.size(); ++j) {
            for (std::int64_t k = 0; k < size.depth; ++k) {
              for (std::int64_t n = 0; n < size.cols; ++n) {
                expected[static_cast<std::size_t>(k * size.cols + n)] +=
                    a[static_cast<std::size_t>(j * size.depth + k)] * b[static_cast<std::size_t>(j * size.cols + n)];
              }
            }
          }
          EXPECT_TRUE(AllNear(dw.values(), expected, {.of_largest = dtype == DType::kF64 ? 1e-14 : 4e-6}));
          EXPECT_EQ(dw.values(), again.values());
        }
      }
    };
    if (dtype == DType::kF64) {
      check(false);
    } else {
      ForEveryKernel(dtype, [&](const cpu::MicroKernel& kernel) { check(kernel.begin != nullptr && !cpu::DetectGemmFeatures().amx); });
    }
  }
}

// A region: cluster once, two products and a GELU on compact rows, scatter once.
TEST(MappedGemm, RegionHasTheBitsOfTheDenseRegion) {
  constexpr std::int64_t kRows = 140, kWidth = 72, kInner = 270, kDistinct = 37;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const CpuStream stream({.threads = 2});
    const TestTensor x(dtype, {kRows, kWidth}, RepeatedRows(kRows, kWidth, kDistinct, "x"));
    const TestTensor up(dtype, {kWidth, kInner}, RandomValues(kWidth * kInner, "up", 0.1)),
        down(dtype, {kInner, kWidth}, RandomValues(kWidth * kInner, "down"));
    TestTensor hidden(dtype, {kRows, kInner}), dense(dtype, {kRows, kWidth}), c_hidden(dtype, {kRows, kInner}), c(dtype, {kRows, kWidth});
    TestTensor y(dtype, {kRows, kWidth});
    const TestMap map(kRows);
    testing::BuildExact(*stream, AsMatrix(x.tensor()), map);
    GemmArgs first = {.a = AsMatrix(x.tensor()), .b = AsMatrix(up.tensor()), .c = AsMatrix(hidden.tensor()), .gelu = true};
    GemmArgs second = {.a = AsMatrix(hidden.tensor()), .b = AsMatrix(down.tensor()), .c = AsMatrix(dense.tensor())};
    Gemm(*stream, first);
    Gemm(*stream, second);
    first.c = AsMatrix(c_hidden.tensor());
    second.a = AsMatrix(c_hidden.tensor());
    second.c = AsMatrix(c.tensor());
    MappedGemm(*stream, {.map = *map, .gather_a = true, .gemm = first});
    MappedGemm(*stream, {.map = *map, .gemm = second});
    ScatterRows(*stream, {.map = *map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor())});
    EXPECT_EQ(y.values(), dense.values());
  }
}

TEST(MappedGemm, AllocatesNothing) {
  const CpuStream stream({.threads = 2});
  const TestTensor x(DType::kF32, {300, 200}, RepeatedRows(300, 200, 90, "x")), w(DType::kF32, {200, 150}, RandomValues(30000, "w"));
  const TestMap map(300);
  testing::BuildExact(*stream, AsMatrix(x.tensor()), map);
  TestTensor c(DType::kF32, {90, 150}), y(DType::kF32, {300, 150}), s(DType::kF32, {90, 150}), dw(DType::kF32, {200, 150});
  const auto step = [&] {
    MappedGemm(*stream,
               {.map = *map, .gather_a = true, .gemm = {.a = AsMatrix(x.tensor()), .b = AsMatrix(w.tensor()), .c = AsMatrix(c.tensor())}});
    ScatterRows(*stream, {.map = *map, .c = AsMatrix(c.tensor()), .y = AsMatrix(y.tensor())});
    SegmentSum(*stream, {.map = *map, .dy = AsMatrix(y.tensor()), .to = AsMatrix(s.tensor())});
    MappedGemm(*stream, {.map = *map,
                         .over = MappedOver::kDepth,
                         .gather_a = true,
                         .gemm = {.a = AsMatrix(x.tensor()), .transpose_a = true, .b = AsMatrix(s.tensor()), .c = AsMatrix(dw.tensor())}});
  };
  step();
  const std::int64_t before = testing::AllocationsOfThisThread();
  step();
  EXPECT_EQ(testing::AllocationsOfThisThread(), before);
}

TEST(MappedGemm, RefusesWhatIsNoPartitionOfRows) {
  const CpuStream stream;
  const TestTensor x(DType::kF32, {4, 4}, RandomValues(16, "x"));
  TestTensor c(DType::kF32, {4, 4}, RandomValues(16, "x"));
  const TestMap map(4, MapDim::kK, MapKind::kSubset);
  MappedGemm(*stream, {.map = *map, .gemm = {.a = AsMatrix(x.tensor()), .b = AsMatrix(x.tensor()), .c = AsMatrix(c.tensor())}});
  EXPECT_THAT(std::string(stream->status().message()), ::testing::HasSubstr("a subset of 4 depths (K)"));
  EXPECT_EQ(c.values(), x.values());
}

}  // namespace
}  // namespace lycia
