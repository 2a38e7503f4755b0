// Which taps of a window lie in an image, along one axis. For kernels that go pixel by pixel.
#ifndef LYCIA_KERNELS_CONV_WINDOW_H_
#define LYCIA_KERNELS_CONV_WINDOW_H_

#include <algorithm>

#include "kernels/conv/conv_axis.h"

namespace lycia::cpu {

struct TapRange {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
};

// Taps of output o that see the image: one range.
inline TapRange InsideTaps(const ConvAxis& axis, std::int64_t o) {
  const std::int64_t start = axis.InputOf(o, 0), step = axis.dilation;
  const std::int64_t begin = start >= 0 ? 0 : (-start + step - 1) / step;
  const std::int64_t end = start >= axis.in ? 0 : (axis.in - start + step - 1) / step;
  return {std::min(begin, axis.filter), std::max(std::min(begin, axis.filter), std::min(end, axis.filter))};
}

// Outputs that see the image through tap `tap`: one range.
inline TapRange OutputsOf(const ConvAxis& axis, std::int64_t tap) {
  const std::int64_t shift = axis.pad_before - tap * axis.dilation;  // output o sees o * stride - shift
  const std::int64_t begin = shift <= 0 ? 0 : (shift + axis.stride - 1) / axis.stride;
  const std::int64_t last = axis.in - 1 + shift;
  const std::int64_t end = last < 0 ? 0 : std::min(last / axis.stride + 1, axis.out());
  return {begin, std::max(begin, end)};
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CONV_WINDOW_H_
