#include "launch/data/augmentation.h"

#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

std::vector<std::uint8_t> RandomImage(const ImageExtents& extents) {
  const RandomStream stream(1, "image", 0);
  std::vector<std::uint8_t> image(static_cast<std::size_t>(extents.height * extents.width * extents.channels));
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<std::uint8_t>(stream.Bits(i) | 1);  // never 0, as the border is
  return image;
}

constexpr ImageExtents kExtents[] = {{1, 1, 1}, {1, 5, 2}, {4, 1, 3}, {3, 4, 3}, {5, 7, 1}, {8, 6, 4}};

TEST(Augmentation, MirrorExchangesLeftAndRight) {
  for (const ImageExtents& extents : kExtents) {
    const auto [H, W, C] = extents;
    const auto image = RandomImage(extents);
    auto mirrored = image;
    MirrorImage(extents, mirrored.data());
    for (std::int64_t i = 0; i < H * W * C; ++i) {
      const std::int64_t h = i / (W * C), w = i / C % W, c = i % C;
      ASSERT_EQ(mirrored[static_cast<std::size_t>(i)], image[static_cast<std::size_t>((h * W + W - 1 - w) * C + c)]);
    }
  }
}

TEST(Augmentation, ShiftMovesEveryPixelAndFillsWithZeros) {
  for (const ImageExtents& extents : kExtents) {
    const auto [H, W, C] = extents;
    const auto image = RandomImage(extents);
    for (std::int64_t down = -H; down <= H; ++down) {
      for (std::int64_t right = -W; right <= W; ++right) {
        auto shifted = image;
        ShiftImage(extents, down, right, shifted.data());
        for (std::int64_t i = 0; i < H * W * C; ++i) {
          const std::int64_t h = i / (W * C) - down, w = i / C % W - right, c = i % C;
          const bool inside = h >= 0 && h < H && w >= 0 && w < W;
          ASSERT_EQ(shifted[static_cast<std::size_t>(i)], inside ? image[static_cast<std::size_t>((h * W + w) * C + c)] : 0)
              << "at " << i << " of " << H << " x " << W << " x " << C << " moved by " << down << ", " << right;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lycia
