#include "kernels/optimizer/optimizer_cuda_launch.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace lycia::cuda {
namespace {

TEST(OptimizerLaunch, WideLoadsOnlyWhereEveryOperandIsAligned) {
  alignas(16) static char memory[64];
  EXPECT_EQ(ElementVector({memory, memory + 16, memory + 48}, 4), 4);
  EXPECT_EQ(ElementVector({memory, memory + 16, memory + 48}, 8), 2);
  EXPECT_EQ(ElementVector({memory, memory + 4, memory + 48}, 4), 1);
  EXPECT_EQ(ElementVector({memory, memory + 16, memory + 8}, 8), 1);
}

TEST(OptimizerLaunch, BlocksCoverEveryElement) {
  for (const int vector : {1, 2, 4}) {
    for (const std::int64_t elements :
         {std::int64_t{1}, std::int64_t{255}, std::int64_t{1024}, std::int64_t{1025}, std::int64_t{5'000'000'000}}) {
      const std::int64_t blocks = ElementBlocks(elements, vector), covered = blocks * kElementThreads * vector;
      EXPECT_GE(covered, elements);
      EXPECT_LT(covered - elements, kElementThreads * vector);
      EXPECT_LE(blocks, INT32_MAX);  // of the first dimension of a grid
    }
  }
}

TEST(OptimizerLaunch, EveryBlockFindsItsSegment) {
  for (int count = 1; count <= kSegmentsAtOnce; ++count) {
    std::int32_t first_blocks[kSegmentsAtOnce];
    std::int32_t next = 0;
    std::vector<int> segment_of_block;
    for (int s = 0; s < count; ++s) {
      first_blocks[s] = next;
      const int blocks = 1 + (s * 7 + count) % 5;
      next += blocks;
      segment_of_block.insert(segment_of_block.end(), static_cast<std::size_t>(blocks), s);
    }
    for (std::int32_t block = 0; block < next; ++block)
      ASSERT_EQ(SegmentOfBlock(first_blocks, count, block), segment_of_block[static_cast<std::size_t>(block)]);
  }
}

}  // namespace
}  // namespace lycia::cuda
