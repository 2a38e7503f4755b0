// Labelled images as a file holds them, all of one size.
#ifndef LYCIA_LAUNCH_DATA_IMAGE_SET_H_
#define LYCIA_LAUNCH_DATA_IMAGE_SET_H_

#include <cstdint>
#include <vector>

namespace lycia {

struct ImageSet {
  std::int64_t height = 0, width = 0, channels = 0;
  std::int64_t classes = 0;          // labels are 0 .. classes - 1
  std::vector<std::uint8_t> pixels;  // [count, height, width, channels]
  std::vector<std::int32_t> labels;  // [count]

  std::int64_t count() const { return static_cast<std::int64_t>(labels.size()); }
  std::int64_t image_bytes() const { return height * width * channels; }
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_IMAGE_SET_H_
