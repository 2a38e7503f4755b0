#include "kernels/cuda/shared_tile.h"

#include <cstdint>
#include <set>

#include "gtest/gtest.h"
#include "kernels/cuda/tensor_map.h"

namespace lycia::cuda {
namespace {

// What the hardware does to every address of the 128-byte swizzle: bits 4-6 become their exclusive or with bits 7-9.
int Swizzle(int address) { return address ^ (address >> 7 & 7) << 4; }

TEST(SharedTile, IsTheHardwaresSwizzleOfPanels) {
  for (const int rows : {8, 64, 128, 160}) {
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < 192; ++column) {
        const int plain = column / 64 * rows * 128 + row * 128 + column % 64 * 2;
        ASSERT_EQ(TileOffset(rows, row, column), Swizzle(plain)) << row << ' ' << column;
        ASSERT_EQ(ElementAt(rows, TileOffset(rows, row, column)), (TileElement{row, column}));
      }
    }
  }
}

struct Fields {
  int address, leading, stride;  // bytes
};
Fields Decode(std::uint64_t descriptor) {
  EXPECT_EQ(descriptor >> 46, 1u << 16) << "128-byte swizzle, base offset 0";
  const auto field = [&](int bit) { return static_cast<int>(descriptor >> bit & 0x3fff) * 16; };
  return {field(0), field(16), field(32)};
}

// As the PTX ISA describes canonical layouts: what the tensor core reads is what TileOffset wrote.
TEST(SharedTile, DescriptorsFindTheElements) {
  constexpr int kBase = 3 * kSwizzleAtomBytes, kRows = 160, kColumns = 128;
  for (int step = 0; step < kColumns / kStepK; ++step) {
    const Fields d = Decode(Advance(RowsDescriptor(kBase), RowsStepBytes(kRows, step)));
    for (int row = 0; row < kRows; ++row) {
      for (int k = 0; k < kStepK; ++k) {
        const int read = Swizzle(d.address + row / 8 * d.stride + row % 8 * 128 + k * 2);
        ASSERT_EQ(read - kBase, TileOffset(kRows, row, step * kStepK + k)) << row << ' ' << step << ' ' << k;
      }
    }
  }
  for (int step = 0; step < kRows / kStepK; ++step) {
    const Fields d = Decode(Advance(ColumnsDescriptor(kBase, kRows), ColumnsStepBytes(step)));
    for (int column = 0; column < kColumns; ++column) {
      for (int k = 0; k < kStepK; ++k) {
        const int read = Swizzle(d.address + column / 64 * d.leading + k / 8 * d.stride + k % 8 * 128 + column % 64 * 2);
        ASSERT_EQ(read - kBase, TileOffset(kRows, step * kStepK + k, column)) << column << ' ' << step << ' ' << k;
      }
    }
  }
}

TEST(SharedTile, AWarpWritesItsFragmentsToAllBanks) {
  for (const int column : {0, 8, 56, 64, 120}) {
    std::set<int> banks;
    for (int lane = 0; lane < 32; ++lane) banks.insert(TileOffset(128, 16 + lane / 4, column + lane % 4 * 2) / 4 % 32);
    EXPECT_EQ(banks.size(), 32u) << column;
  }
}

TEST(TensorMap, GivesTheReason) {
  const TensorMap good{.sizes = {128, 5, 3, 2}, .strides = {768, 256, 3840}, .box = {64, 128, 1, 1}};
  EXPECT_EQ(Reject(good, 4096), nullptr);
  EXPECT_EQ(good.box_bytes(), 16384);
  EXPECT_STREQ(Reject(good, 4104), "the tensor does not begin at a multiple of 16 bytes");
  TensorMap bad = good;
  bad.strides[1] = 250;
  EXPECT_STREQ(Reject(bad, 4096), "a stride is not a multiple of 16 bytes");
  bad = good, bad.box[1] = 257;
  EXPECT_STREQ(Reject(bad, 4096), "a box has 1 to 256 elements in each dimension");
  bad = good, bad.box[0] = 128;
  EXPECT_STREQ(Reject(bad, 4096), "a row of the box is wider than the 128-byte swizzle");
  bad = good, bad.sizes[2] = 0;
  EXPECT_STREQ(Reject(bad, 4096), "a dimension has 1 to 2^32 elements");
  bad = good, bad.strides[2] = std::int64_t{1} << 40;
  EXPECT_STREQ(Reject(bad, 4096), "a stride is negative or 2^40 bytes and more");
}

}  // namespace
}  // namespace lycia::cuda
