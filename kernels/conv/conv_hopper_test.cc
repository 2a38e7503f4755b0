// Hopper's convolutions on the host: every copy of every tile replayed, pixel by pixel, against the index maps of conv_axis.h.
#include "kernels/conv/conv_hopper.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/conv/testing/conv_shapes.h"

namespace lycia::cuda {
namespace {

// f(column pixel of the result, filter tap r, s, pixel that the copy engine reads: n, h, w) for all that the kernel would multiply.
template <typename F>
void Replay(const ConvProduct& p, const F& f) {
  for (std::int64_t first = 0; first < p.positions(); first += kConvRows) {
    // As the producer computes it from the tile's first position.
    const std::int64_t line = first / p.cols, n = line / p.rows;
    const ImagePixel base{n, p.images.base_h(line % p.rows), p.images.base_w(first % p.cols)};
    for (std::int64_t row = 0; row < kConvRows && first + row < p.positions(); ++row) {
      const ImagePixel at = BasePixelAt(p.images, base, row);
      // As a consumer computes it from its row.
      const std::int64_t m = first + row, in_line = m / p.cols, image = in_line / p.rows;
      const std::int64_t h = p.to_h + in_line % p.rows * p.to_step_h, w = p.to_w + m % p.cols * p.to_step_w;
      for (std::int64_t r = 0; r < p.taps_h; ++r) {
        for (std::int64_t s = 0; s < p.taps_w; ++s) {
          f(ImagePixel{image, h, w}, p.first_tap_h + r * p.tap_step_h, p.first_tap_w + s * p.tap_step_w,
            ImagePixel{at.n, at.h + r * p.tap_h, at.w + s * p.tap_w});
        }
      }
    }
  }
}

std::vector<ConvShape> Shapes() {
  std::vector<ConvShape> shapes = testing::ConvShapes();
  const ConvAxis sparse{.in = 11, .filter = 2, .stride = 5, .pad_before = 1},
      shared{.in = 13, .filter = 3, .stride = 4, .pad_before = 2, .pad_after = 3, .dilation = 2};
  shapes.push_back({.N = 3, .C = 64, .K = 64, .height = sparse, .width = shared});
  shapes.push_back({.N = 5, .C = 64, .K = 64, .height = shared, .width = {.in = 30, .filter = 3, .pad_before = 1, .pad_after = 1}});
  return shapes;
}

TEST(ConvHopper, ForwardTilesReadWhatTheWindowsSee) {
  for (const ConvShape& s : Shapes()) {
    SCOPED_TRACE(s.ToString());
    const ConvProduct p = ForwardProductOf(s);
    ASSERT_EQ(p.images.rows(), s.P());
    ASSERT_EQ(p.images.cols(), s.Q());
    std::int64_t seen = 0;
    Replay(p, [&](const ImagePixel& to, std::int64_t r, std::int64_t t, const ImagePixel& from) {
      ++seen;
      ASSERT_EQ(from, (ImagePixel{to.n, s.height.InputOf(to.h, r), s.width.InputOf(to.w, t)}));
    });
    EXPECT_EQ(seen, s.N * s.P() * s.Q() * s.R() * s.S());
  }
}

TEST(ConvHopper, InputTilesReadEachOutputThatSeesAPixelOnce) {
  for (const ConvShape& s : Shapes()) {
    SCOPED_TRACE(s.ToString());
    // Every product (input pixel, tap) with an output inside is met once; all other copies read zeros.
    std::vector<int> met(static_cast<std::size_t>(s.N * s.H() * s.W() * s.R() * s.S()));
    std::int64_t pixels = 0;
    for (std::int64_t phase_h = 0; phase_h < s.height.stride; ++phase_h) {
      for (std::int64_t phase_w = 0; phase_w < s.width.stride; ++phase_w) {
        const ConvProduct p = InputProductOf(s, phase_h, phase_w);
        pixels += p.positions();
        if (p.positions() == 0 || p.taps_h * p.taps_w == 0) continue;
        ASSERT_EQ(p.images.rows(), p.rows);
        ASSERT_EQ(p.images.cols(), p.cols);
        Replay(p, [&](const ImagePixel& to, std::int64_t r, std::int64_t t, const ImagePixel& from) {
          const std::int64_t q = s.width.OutputOf(to.w, t), o = s.height.OutputOf(to.h, r);
          const bool inside = from.h >= 0 && from.h < s.P() && from.w >= 0 && from.w < s.Q();
          ASSERT_EQ(inside, o >= 0 && q >= 0);
          if (!inside) return;
          ASSERT_EQ(from, (ImagePixel{to.n, o, q}));
          ++met[static_cast<std::size_t>((((to.n * s.H() + to.h) * s.W() + to.w) * s.R() + r) * s.S() + t)];
        });
      }
    }
    EXPECT_EQ(pixels, s.N * s.H() * s.W());
    for (std::size_t i = 0; i < met.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i), t = at % s.S(), r = at / s.S() % s.R(), w = at / s.S() / s.R() % s.W();
      const std::int64_t h = at / s.S() / s.R() / s.W() % s.H();
      ASSERT_EQ(met[i], s.height.OutputOf(h, r) >= 0 && s.width.OutputOf(w, t) >= 0 ? 1 : 0) << i;
    }
  }
}

TEST(ConvHopper, StagesFitAMultiprocessorAndBeginAtAtoms) {
  for (const int columns : {64, 128}) {
    EXPECT_LE(ConvSharedBytes(columns), kSharedPerBlock);
    EXPECT_EQ(ConvStageBytes(columns) % 1024, 0);
    EXPECT_EQ(kConvRows * kConvDepth * 2 % 1024, 0);
  }
  EXPECT_EQ(ConvColumns(64), 64);
  EXPECT_EQ(ConvColumns(72), 128);
}

TEST(ConvHopper, SaysWhatItDoesNotTake) {
  const ConvAxis axis{.in = 56, .filter = 3, .pad_before = 1, .pad_after = 1};
  const ConvShape good{.N = 8, .C = 64, .K = 64, .height = axis, .width = axis};
  const auto reason = [](const ConvShape& s, std::uintptr_t at = 1024) {
    return RejectConvHopper(s, ForwardProductOf(s), ConvFilterMap(s, 64), at, 1024);
  };
  EXPECT_EQ(reason(good), nullptr);
  EXPECT_STREQ(reason(good, 1026), "the images do not begin at a multiple of 16 bytes");
  ConvShape s = good;
  s.C = 96;
  EXPECT_STREQ(reason(s), "channels that are summed are not a multiple of 64");
  s = good;
  s.K = 60;
  EXPECT_STREQ(reason(s), "columns are not a multiple of 8");
  s = good;
  s.width.stride = 9;
  EXPECT_STREQ(reason(s), "a stride is not 1 to 8");
  s = good;
  s.height.pad_before = 129;
  EXPECT_STREQ(reason(s), "a corner of the box lies more than 127 pixels off the image's");
  s = good;
  s.N = 1, s.height.in = s.width.in = 14;
  EXPECT_STREQ(reason(s), "the images are smaller than 128 KiB");
  s = good;
  s.height = {.in = 300, .filter = 2, .dilation = 256};
  EXPECT_STREQ(reason(s), "a tap lies more than 255 pixels off");
  // ResNet's stride of two: gradients by phases of 1, 2 and 4 taps.
  s = good;
  s.height.stride = s.width.stride = 2;
  for (const int phase : {0, 1}) {
    const ConvProduct p = InputProductOf(s, phase, phase);
    EXPECT_EQ(p.steps(), phase == 0 ? 1 : 4);
    EXPECT_EQ(RejectConvHopper(s, p, ConvFilterMap(s, kConvDepth), 1024, 1024), nullptr);
  }
}

TEST(ConvHopper, WeightStepsCoverAllPositionsOnceAndReadWhatTheWindowsSee) {
  for (const ConvShape& s : Shapes()) {
    SCOPED_TRACE(s.ToString());
    const ConvProduct p = WeightProductOf(s);
    for (const std::int64_t workspace : {std::int64_t{0}, std::int64_t{1} << 25}) {
      const ConvSplits splits = ConvWeightSplits(s, workspace);
      ASSERT_EQ(splits.depth_each % kWeightPositions, 0);
      if (splits.splits > 1) {
        ASSERT_LE(splits.splits * s.K * s.R() * s.S() * s.group_C() * 4, workspace);
      }
      std::int64_t met = 0;
      for (int split = 0; split < splits.splits; ++split) {
        const std::int64_t begin = split * splits.depth_each, end = std::min(p.positions(), begin + splits.depth_each);
        for (std::int64_t m = begin; m < end; m += kWeightPositions) {
          const std::int64_t line = m / p.cols;
          const ImagePixel base{line / p.rows, p.images.base_h(line % p.rows), p.images.base_w(m % p.cols)};
          for (std::int64_t row = 0; row < kWeightPositions; ++row) {
            const ImagePixel at = BasePixelAt(p.images, base, row);
            // What lies behind the last position meets zeros of dout's box, and lies behind the last image itself.
            ASSERT_EQ(at.n >= s.N, m + row >= p.positions());
            if (m + row >= p.positions()) continue;
            ASSERT_EQ(m + row, met++);
            const std::int64_t q = (m + row) % s.Q(), o = (m + row) / s.Q() % s.P();
            for (std::int64_t t = 0; t < s.S(); ++t) ASSERT_EQ(at.w + t * p.tap_w, s.width.InputOf(q, t));
            for (std::int64_t r = 0; r < s.R(); ++r) ASSERT_EQ(at.h + r * p.tap_h, s.height.InputOf(o, r));
          }
        }
      }
      EXPECT_EQ(met, p.positions());
    }
  }
}

TEST(ConvHopper, WeightGradientSaysWhatItDoesNotTake) {
  const ConvAxis axis{.in = 56, .filter = 3, .pad_before = 1, .pad_after = 1};
  ConvShape s{.N = 128, .C = 64, .K = 64, .height = axis, .width = axis};
  EXPECT_EQ(RejectConvWeightHopper(s, 1024, 1024), nullptr);
  EXPECT_EQ(ConvWeightSplits(s, std::int64_t{32} << 20).splits, 58);  // 9 tiles of 528 blocks
  EXPECT_STREQ(RejectConvWeightHopper(s, 1024, 1032), "the tensor does not begin at a multiple of 16 bytes");
  s.K = 60;
  EXPECT_STREQ(RejectConvWeightHopper(s, 1024, 1024), "a stride is not a multiple of 16 bytes");
  s.K = 24;
  EXPECT_STREQ(RejectConvWeightHopper(s, 1024, 1024), "fewer than 32 filters in a group");
  s.C = 3;
  EXPECT_STREQ(RejectConvWeightHopper(s, 1024, 1024), "channels of a group are not a multiple of 8, or fewer than 32");
}

}  // namespace
}  // namespace lycia::cuda
