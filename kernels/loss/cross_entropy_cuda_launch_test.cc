#include "kernels/loss/cross_entropy_cuda_launch.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace lycia::cuda {
namespace {

TEST(LossLaunch, SmallVocabulariesTakeFewThreads) {
  EXPECT_EQ(LossThreads(1, 8), 32);
  EXPECT_EQ(LossThreads(256, 8), 32);
  EXPECT_EQ(LossThreads(257, 8), 64);
  EXPECT_EQ(LossThreads(257, 1), 512);
  EXPECT_EQ(LossThreads(50257, 8), 512);
}

// Every element once, packs aligned to the tensor.
TEST(LossLaunch, ARowIsCutIntoAlignedPacks) {
  for (const int vector : {1, 2, 4, 8}) {
    for (std::int64_t first = 0; first < 20; ++first) {
      for (std::int64_t size = 0; size < 40; ++size) {
        const RowCut cut = CutRow(first, size, vector);
        ASSERT_LE(cut.head, size);
        ASSERT_LT(cut.head, vector);
        ASSERT_EQ(cut.tail, cut.head + cut.packs * vector);
        ASSERT_LE(cut.tail, size);
        ASSERT_LT(size - cut.tail, vector);
        ASSERT_TRUE(cut.packs == 0 || (first + cut.head) % vector == 0);
      }
    }
  }
}

}  // namespace
}  // namespace lycia::cuda
