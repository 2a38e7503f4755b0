// Products of the tensor cores by warps, through fragments, swizzled tiles and asynchronous copies, against loops in f64.
#include <cstdint>

#include "kernels/cuda/testing/tile_products_cuda.h"
#include "tests/gpu/kernel_fixture.h"

namespace lycia {
namespace {

using MmaTest = KernelFixture;

TEST_P(MmaTest, ProductsOfRowsAndOfColumns) {
  if (!on_cuda()) GTEST_SKIP() << "tensor cores";
  constexpr std::int64_t kSide = 16;
  for (const std::int64_t depth : {64, 40, 16}) {
    const auto at = [&](std::int64_t row, std::int64_t k) { return static_cast<std::size_t>(row * depth + k); };
    const Values a = Random(kSide * depth, "a", DType::kBF16), b = Random(kSide * depth, "b", DType::kBF16);
    Values a_columns(a.size()), b_columns(b.size()), product(kSide * kSide), chained(kSide * kSide);
    for (std::int64_t i = 0; i < kSide; ++i) {
      for (std::int64_t k = 0; k < depth; ++k) {
        a_columns[static_cast<std::size_t>(k * kSide + i)] = a[at(i, k)];
        b_columns[static_cast<std::size_t>(k * kSide + i)] = b[at(i, k)];
        for (std::int64_t j = 0; j < kSide; ++j) product[static_cast<std::size_t>(i * kSide + j)] += a[at(i, k)] * b[at(j, k)];
      }
    }
    for (std::int64_t i = 0; i < kSide; ++i) {
      for (std::int64_t j = 0; j < kSide; ++j) {
        for (std::int64_t k = 0; k < kSide; ++k) {
          chained[static_cast<std::size_t>(i * kSide + j)] += product[static_cast<std::size_t>(i * kSide + k)] * b[at(j, k)];
        }
      }
    }
    const Shape rows{kSide, depth}, columns{depth, kSide}, square{kSide, kSide};
    const Tensor by_rows = Poisoned(DType::kF32, square), by_columns = Poisoned(DType::kF32, square),
                 of_rounded = Poisoned(DType::kF32, square);
    cuda::TileProducts(*stream_, {.depth = depth,
                                  .a = Put(a, DType::kBF16, rows),
                                  .b = Put(b, DType::kBF16, rows),
                                  .a_columns = Put(a_columns, DType::kBF16, columns),
                                  .b_columns = Put(b_columns, DType::kBF16, columns),
                                  .by_rows = by_rows,
                                  .by_columns = by_columns,
                                  .chained = of_rounded});
    const testing::Tolerance sums{.absolute = 1e-5, .of_largest = 1e-6};
    ExpectNear("by rows", by_rows, product, sums);
    ExpectNear("by columns", by_columns, product, sums);
    ExpectNear("chained", of_rounded, chained, {.absolute = 1e-5, .of_largest = 0x1p-8});  // the factors were rounded to bf16
    Release();
  }
}

LYCIA_INSTANTIATE_KERNEL_TESTS(MmaTest);

}  // namespace
}  // namespace lycia
