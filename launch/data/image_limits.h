// Bounds that readers put on what a file says about itself, so that a damaged header is an error and not an allocation.
#ifndef LYCIA_LAUNCH_DATA_IMAGE_LIMITS_H_
#define LYCIA_LAUNCH_DATA_IMAGE_LIMITS_H_

#include <cstdint>

namespace lycia {

inline constexpr std::int64_t kMaxImageFileBytes = std::int64_t{16} << 30;
inline constexpr std::int64_t kMaxImageSide = 16384;  // pixels
inline constexpr std::int64_t kMaxImageClasses = 1 << 20;

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_IMAGE_LIMITS_H_
