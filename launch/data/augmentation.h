// Variants of an image, made in place.
#ifndef LYCIA_LAUNCH_DATA_AUGMENTATION_H_
#define LYCIA_LAUNCH_DATA_AUGMENTATION_H_

#include <cstdint>

namespace lycia {

struct ImageExtents {
  std::int64_t height = 0, width = 0, channels = 0;
};

// image [H, W, C]: column w becomes column W - 1 - w.
void MirrorImage(const ImageExtents& extents, std::uint8_t* image);

// image [H, W, C]: pixel (h, w) moves to (h + down, w + right); what moves out is lost, what comes in is 0. |down| <= H, |right| <= W.
void ShiftImage(const ImageExtents& extents, std::int64_t down, std::int64_t right, std::uint8_t* image);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_AUGMENTATION_H_
