// Mapped products on Hopper, on the host: every tile once, and what every copy brings beside what the product needs.
#include "kernels/reuse/mapped_gemm_hopper.h"

#include <set>
#include <utility>

#include "gtest/gtest.h"

namespace lycia::cuda {
namespace {

TEST(MappedGemmHopper, EveryTileComesOnceAndNeighboursShareColumns) {
  for (const auto& [rows, columns] : {std::pair(1, 1), {1, 7}, {15, 3}, {16, 16}, {17, 16}, {64, 16}, {100, 1}}) {
    std::set<std::pair<int, int>> seen;
    for (int tile = 0; tile < rows * columns; ++tile) {
      const MappedTile at = MappedTileAt(tile, rows, columns);
      ASSERT_TRUE(at.row >= 0 && at.row < rows && at.column >= 0 && at.column < columns) << tile;
      ASSERT_TRUE(seen.insert({at.row, at.column}).second) << tile;
    }
  }
  std::set<int> of_rows, of_columns;
  for (int tile = 0; tile < 128; ++tile) {
    of_rows.insert(MappedTileAt(tile, 64, 16).row);
    of_columns.insert(MappedTileAt(tile, 64, 16).column);
  }
  EXPECT_EQ(of_rows.size(), 16u);
  EXPECT_EQ(of_columns.size(), 8u);
}

MappedGemmArgs Product(MappedOver over, bool transpose_b) {
  char* const at = reinterpret_cast<char*>(std::uintptr_t{4096});
  MappedGemmArgs args{.over = over};
  GemmArgs& g = args.gemm;
  if (over == MappedOver::kRows) {
    g.a = {at, DType::kBF16, 1000, 200, 200};
    g.b = transpose_b ? ConstMatrix{at, DType::kBF16, 520, 200, 208} : ConstMatrix{at, DType::kBF16, 200, 520, 528};
    g.transpose_b = transpose_b;
    g.c = {at, DType::kBF16, 1000, 520, 520};
  } else {
    g.a = {at, DType::kBF16, 1000, 200, 200};
    g.transpose_a = true;
    g.b = {at, DType::kBF16, 1000, 520, 520};
    g.c = {at, DType::kF32, 200, 520, 520};
  }
  return args;
}

// The boxes of a tile and step, as the kernel asks for them, cover its rows, columns and depth, and stand where the tensor cores look.
TEST(MappedGemmHopper, BoxesBringWhatATileNeeds) {
  for (const MappedOver over : {MappedOver::kRows, MappedOver::kDepth}) {
    for (const bool transpose_b : {false, true}) {
      if (over == MappedOver::kDepth && transpose_b) continue;
      const MappedGemmArgs args = Product(over, transpose_b);
      const TensorMap left = MappedLeftMap(args), right = MappedRightMap(args);
      const int left_panels = LeftSumsRows(args) ? kMappedRows / kPanelColumns : 1;
      const int right_panels = RightSumsRows(args) ? kMappedColumns / kPanelColumns : 1;
      EXPECT_EQ(left.box_bytes() * left_panels, kMappedLeftBytes);
      EXPECT_EQ(right.box_bytes() * right_panels, kMappedRightBytes);
      EXPECT_EQ(left.sizes[0], args.gemm.a.cols);
      EXPECT_EQ(left.sizes[1], args.gemm.a.rows);
      EXPECT_EQ(right.strides[0], args.gemm.b.ld * 2);
      // Where element (lane, k) of an operand stands in its stage, by the boxes and by what the descriptors ask for.
      for (int lane = 0; lane < kMappedColumns; ++lane) {
        for (int k = 0; k < kMappedDepth; ++k) {
          const auto box = [&](const TensorMap& map, bool sums_rows) {
            const int panel = sums_rows ? lane / kPanelColumns : 0, row = sums_rows ? k : lane,
                      column = sums_rows ? lane % kPanelColumns : k;
            return panel * static_cast<int>(map.box_bytes()) + TileOffset(map.box[1], row, column);
          };
          const auto tile = [&](int rows, bool sums_rows) {
            return sums_rows ? TileOffset(kMappedDepth, k, lane) : TileOffset(rows, lane, k);
          };
          ASSERT_EQ(box(right, RightSumsRows(args)), tile(kMappedColumns, RightSumsRows(args)));
          if (lane >= kMappedRows) continue;
          ASSERT_EQ(box(left, LeftSumsRows(args)), tile(kMappedRows, LeftSumsRows(args)));
        }
      }
      EXPECT_EQ(RejectMappedHopper(args), nullptr);
    }
  }
}

TEST(MappedGemmHopper, RowsOnTheirWayOutLieInAllBanks) {
  std::set<int> banks;
  for (int lane = 0; lane < 32; ++lane) banks.insert((lane / 4 * kMappedRowBytes + lane % 4 * 4) / 4 % 32);
  EXPECT_EQ(banks.size(), 32u);
  EXPECT_EQ(kMappedRowBytes % 16, 0);
  EXPECT_EQ(kMappedLeftBytes % kSwizzleAtomBytes, 0);
  EXPECT_EQ(kMappedRightBytes % kSwizzleAtomBytes, 0);
}

TEST(MappedGemmHopper, SaysWhatItDoesNotTake) {
  const MappedGemmArgs good = Product(MappedOver::kRows, false);
  MappedGemmArgs args = good;
  args.gather_a = true;
  EXPECT_EQ(RejectMappedHopper(args), nullptr);
  args = good, args.gemm.a.dtype = DType::kF32;
  EXPECT_STREQ(RejectMappedHopper(args), "operands are not bf16");
  args = good, args.gemm.a.cols = args.gemm.b.rows = 196;
  EXPECT_STREQ(RejectMappedHopper(args), "the depth is not a multiple of 8");
  args = good, args.gemm.c.ld = 524;
  EXPECT_STREQ(RejectMappedHopper(args), "rows of c are not aligned to 16 bytes");
  args = good, args.gemm.c.cols = args.gemm.b.cols = 516;
  EXPECT_STREQ(RejectMappedHopper(args), "columns are not a multiple of 8");
  args = good, args.gemm.b.ld = 525;
  EXPECT_STREQ(RejectMappedHopper(args), "a stride is not a multiple of 16 bytes");
  args = good, args.gemm.c.dtype = DType::kF32;
  EXPECT_STREQ(RejectMappedHopper(args), "rows of c are not bf16, or sums over rows not f32");
  args = good, args.scattered = good.gemm.c, args.scattered.ld = 521;
  EXPECT_STREQ(RejectMappedHopper(args), "scattered rows are not aligned to 16 bytes");
  args = good, args.gemm.residual = good.gemm.c, args.gemm.residual.ld = 521;
  EXPECT_STREQ(RejectMappedHopper(args), "what follows the sum is not aligned to pairs");
  args = Product(MappedOver::kDepth, false), args.gather_a = true;
  EXPECT_STREQ(RejectMappedHopper(args), "listed rows of depth, or times a transposed matrix");
}

}  // namespace
}  // namespace lycia::cuda
