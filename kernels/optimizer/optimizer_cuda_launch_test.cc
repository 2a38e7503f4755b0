#include "kernels/optimizer/optimizer_cuda_launch.h"

#include <cstdint>

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

}  // namespace
}  // namespace lycia::cuda
