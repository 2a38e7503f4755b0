// Launch choices of the plain convolutions on CUDA, without a GPU.
#include "kernels/conv/conv_plain.h"

#include "gtest/gtest.h"

namespace lycia::cuda {
namespace {

ConvShape Square(std::int64_t N, std::int64_t side, std::int64_t C, std::int64_t K, std::int64_t filter, std::int64_t groups = 1) {
  const ConvAxis axis{.in = side, .filter = filter, .pad_before = filter / 2, .pad_after = filter / 2};
  return {.N = N, .C = C, .K = K, .height = axis, .width = axis, .groups = groups};
}

TEST(ConvSplits, CoverTheDepthOnceAndFitTheWorkspace) {
  for (const std::int64_t N : {1, 3, 128}) {
    for (const std::int64_t side : {1, 7, 56}) {
      for (const std::int64_t C : {3, 64, 512}) {
        for (const std::int64_t workspace : {std::int64_t{0}, std::int64_t{1} << 20, std::int64_t{32} << 20}) {
          const ConvShape s = Square(N, side, C, 64, 3);
          const ConvSplits got = ChooseConvSplits(s, 4, workspace);
          const std::int64_t depth = N * side * side;
          SCOPED_TRACE(s.ToString());
          ASSERT_GE(got.splits, 1);
          EXPECT_EQ(got.depth_each % kConvTileDepth, 0);
          EXPECT_GE(got.splits * got.depth_each, depth);
          EXPECT_LT((got.splits - 1) * got.depth_each, depth);  // none is empty
          if (got.splits > 1) {
            EXPECT_LE(got.splits * s.K * 9 * C * 4, workspace);
            EXPECT_GE(got.depth_each, kConvLeastSplitDepth);
          }
        }
      }
    }
  }
}

TEST(ConvSplits, FillTheChipWhereTilesAreFew) {
  // ResNet's 3x3x64: 9 tiles, 401,408 outputs. 32 MiB hold 227 parts of 36,864 sums; 113 are enough.
  const ConvSplits got = ChooseConvSplits(Square(128, 56, 64, 64, 3), 4, std::int64_t{32} << 20);
  EXPECT_EQ(got.splits, 113);
  EXPECT_EQ(ChooseConvSplits(Square(1, 14, 2048, 2048, 3), 4, std::int64_t{32} << 20).splits, 1);  // 9,216 tiles
}

TEST(ConvPlain, RejectsWhatItCannotCount) {
  EXPECT_EQ(RejectConvPlain(Square(128, 56, 64, 64, 3)), nullptr);
  EXPECT_STREQ(RejectConvPlain(Square(1 << 20, 56, 64, 64, 3)), "more than 2^30 pixels; split the images among calls");
  EXPECT_STREQ(RejectConvPlain(Square(1, 4, 70000, 70000, 1, 70000)), "more than 65,535 groups");
}

}  // namespace
}  // namespace lycia::cuda
