#include "launch/data/augmentation.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/core/check.h"

namespace lycia {

void MirrorImage(const ImageExtents& extents, std::uint8_t* image) {
  const auto [height, width, channels] = extents;
  for (std::int64_t h = 0; h < height; ++h) {
    std::uint8_t* row = image + h * width * channels;
    for (std::int64_t w = 0; w < width / 2; ++w) {
      std::swap_ranges(row + w * channels, row + (w + 1) * channels, row + (width - 1 - w) * channels);
    }
  }
}

void ShiftImage(const ImageExtents& extents, std::int64_t down, std::int64_t right, std::uint8_t* image) {
  const auto [height, width, channels] = extents;
  LYCIA_CHECK(std::abs(down) <= height && std::abs(right) <= width) << down << ", " << right << " ";
  const auto row_bytes = static_cast<std::size_t>(width * channels), gap = static_cast<std::size_t>(std::abs(right) * channels);
  for (std::int64_t i = 0; i < height; ++i) {
    const std::int64_t to = down > 0 ? height - 1 - i : i, from = to - down;  // a row is read before it is overwritten
    std::uint8_t* row = image + to * width * channels;
    if (from < 0 || from >= height) {
      std::memset(row, 0, row_bytes);
      continue;
    }
    const std::uint8_t* source = image + from * width * channels;
    std::memmove(row + (right > 0 ? gap : 0), source + (right < 0 ? gap : 0), row_bytes - gap);
    std::memset(right > 0 ? row : row + row_bytes - gap, 0, gap);
  }
}

}  // namespace lycia
