// Launches of maps over elements and of reductions over columns.
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/column_launch.h"
#include "kernels/cuda/map_launch.h"

namespace lycia::cuda {
namespace {

TEST(MapLaunch, WideAccessesOnlyWhereEveryRowOfEveryOperandIsAligned) {
  alignas(16) static char memory[64];
  EXPECT_TRUE(MapAllows(4, {{memory, 4}, {memory + 16, 4}, {nullptr, 4}}));
  EXPECT_FALSE(MapAllows(4, {{memory, 4}, {memory + 4, 4}}));
  EXPECT_FALSE(MapAllows(8, {{memory, 4}}));                          // 32 bytes
  EXPECT_TRUE(MapAllows(4, {{memory, 4, 8}, {memory + 8, 2, 12}}));   // 8 bytes of bf16 beside 16 of f32
  EXPECT_FALSE(MapAllows(4, {{memory, 4, 8}, {memory + 8, 2, 10}}));  // every second row is not
  EXPECT_TRUE(MapAllows(1, {{memory + 2, 2, 7}}));
}

TEST(MapLaunch, BlocksCoverEveryPack) {
  for (const int vector : {1, 2, 4, 8}) {
    for (const std::int64_t rows : {1, 3, 1000}) {
      for (const std::int64_t cols : {std::int64_t{1}, std::int64_t{7}, std::int64_t{8}, std::int64_t{768}, std::int64_t{2'000'000'001}}) {
        const std::int64_t packs = rows * PacksOfRow(cols, vector), threads = MapBlocks(rows, cols, vector) * kMapThreads;
        EXPECT_GE(PacksOfRow(cols, vector) * vector, cols);
        EXPECT_LT(PacksOfRow(cols, vector) * vector - cols, vector);
        EXPECT_GE(threads, packs);
        EXPECT_LT(threads - packs, kMapThreads);
      }
    }
  }
  EXPECT_LE(MapBlocks(1, std::int64_t{500'000'000'000}, 1), INT32_MAX);
}

TEST(ColumnLaunch, FillsTheDeviceAsFarAsThereAreRows) {
  EXPECT_EQ(ChooseColumnLaunch({.rows = 8192, .cols = 768, .widest = 8}), (ColumnLaunch{16, 88}));  // 3 tiles of 256
  EXPECT_EQ(ChooseColumnLaunch({.rows = 8192, .cols = 768, .widest = 4}), (ColumnLaunch{16, 44}));  // 6 of 128
  EXPECT_EQ(ChooseColumnLaunch({.rows = 1000, .cols = 768, .widest = 8}), (ColumnLaunch{16, 15}));
  EXPECT_EQ(ChooseColumnLaunch({.rows = 1 << 20, .cols = 1 << 20, .widest = 8}), (ColumnLaunch{16, 1}));
  EXPECT_EQ(ChooseColumnLaunch({.rows = 63, .cols = 64, .widest = 8}), (ColumnLaunch{8, 1}));
  EXPECT_EQ(ChooseColumnLaunch({.rows = 1, .cols = 64, .widest = 8}), (ColumnLaunch{1, 1}));
  EXPECT_EQ(ChooseColumnLaunch({.groups = 8, .rows = 100'000, .cols = 64, .widest = 8}), (ColumnLaunch{16, 33}));
}

TEST(ColumnLaunch, EveryRowIsTakenOnce) {
  for (const std::int64_t rows : {1, 2, 5, 16, 17, 63, 1000, 1001}) {
    for (const std::int64_t stride : {1, 2, 7, 16, 33}) {
      for (std::int64_t first = 0; first < stride; ++first) {
        for (std::int64_t length = 1; first + length <= stride; ++length) {
          std::int64_t taken = 0;
          for (std::int64_t r = 0; r < rows; ++r) taken += r % stride >= first && r % stride < first + length;
          ASSERT_EQ(RowsTaken(rows, stride, first, length), taken) << rows << ' ' << stride << ' ' << first << ' ' << length;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lycia::cuda
