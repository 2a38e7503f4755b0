// Bytes of images as numbers around zero.
#ifndef LYCIA_KERNELS_IMAGE_NORMALIZE_H_
#define LYCIA_KERNELS_IMAGE_NORMALIZE_H_

#include <array>

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

inline constexpr std::int64_t kMaxImageChannels = 4;

// out = (in / 255 - mean) / deviation, channel by channel, computed in f64 and rounded once: the same bits everywhere.
struct NormalizeImagesArgs {
  ConstTensor in;                                                  // [..., C] u8, C <= kMaxImageChannels
  std::array<double, kMaxImageChannels> mean{};                    // [C]
  std::array<double, kMaxImageChannels> deviation = {1, 1, 1, 1};  // [C], not 0
  Tensor out;                                                      // [..., C] bf16, f32 or f64
};

namespace cpu {
void NormalizeImages(Stream& stream, const NormalizeImagesArgs& args);
}  // namespace cpu
namespace cuda {
void NormalizeImages(Stream& stream, const NormalizeImagesArgs& args);
}  // namespace cuda

inline void NormalizeImages(Stream& stream, const NormalizeImagesArgs& args) {
  Dispatch(
      stream, [&] { cpu::NormalizeImages(stream, args); }, [&] { cuda::NormalizeImages(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_IMAGE_NORMALIZE_H_
