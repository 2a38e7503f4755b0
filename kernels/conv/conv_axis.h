// Where a window meets an image along one axis: index maps both ways, for convolutions and pools, on the CPU and in launch code of GPUs.
//
// Output position o looks at input position  i = o * stride - pad_before + tap * dilation,  tap = 0 .. filter - 1 (InputOf). The other way,
// an input position is reached through a tap by one output position or by none (OutputOf). Input positions i = phase + n * stride of one
// phase are all reached through the same taps (PhaseOf): so the gradient of the input is, phase by phase, a convolution of stride 1.
//
// Example, filter 3, stride 2, pad 1, on six inputs: out 0 sees -1 0 1, out 1 sees 1 2 3, out 2 sees 3 4 5.
//   Phase 0 (inputs 0 2 4): tap 1, from outs 0 1 2.  Phase 1 (inputs 1 3 5): tap 0 from outs 1 2 3 (3 is none), tap 2 from outs 0 1 2.
#ifndef LYCIA_KERNELS_CONV_CONV_AXIS_H_
#define LYCIA_KERNELS_CONV_CONV_AXIS_H_

#include <cstdint>
#include <numeric>

namespace lycia {

struct ConvAxis {
  std::int64_t in = 1, filter = 1, stride = 1;
  std::int64_t pad_before = 0, pad_after = 0;  // positions beyond the image, which count as zero (in a maximum: as nothing)
  std::int64_t dilation = 1;

  std::int64_t reach() const { return dilation * (filter - 1) + 1; }
  // Output positions: 0 where the filter is longer than the padded image.
  std::int64_t out() const {
    const std::int64_t room = in + pad_before + pad_after - reach();
    return room < 0 ? 0 : room / stride + 1;
  }
  bool Inside(std::int64_t position) const { return position >= 0 && position < in; }
  // May lie outside the image.
  std::int64_t InputOf(std::int64_t o, std::int64_t tap) const { return o * stride - pad_before + tap * dilation; }
  // The output position that sees input position i through this tap; -1: none.
  std::int64_t OutputOf(std::int64_t i, std::int64_t tap) const {
    const std::int64_t at = i + pad_before - tap * dilation;
    if (at < 0 || at % stride != 0 || at / stride >= out()) return -1;
    return at / stride;
  }
  bool operator==(const ConvAxis&) const = default;
};

// One of the `stride` sets of input positions i = phase + n * stride, n = 0 .. count - 1. Of its taps, in descending order so that the
// outputs ascend, number t = 0 .. taps - 1 is filter tap first_tap - t * tap_step, and sees i from output position n + first_out + t *
// out_step (which may lie outside 0 .. out() - 1: then it is none).
struct ConvPhase {
  std::int64_t phase = 0, count = 0;
  std::int64_t taps = 0, first_tap = 0, tap_step = 1;
  std::int64_t first_out = 0, out_step = 1;
};

inline ConvPhase PhaseOf(const ConvAxis& axis, std::int64_t phase) {
  const std::int64_t common = std::gcd(axis.stride, axis.dilation);
  ConvPhase p = {.phase = phase,
                 .count = phase < axis.in ? (axis.in - phase + axis.stride - 1) / axis.stride : 0,
                 .tap_step = axis.stride / common,
                 .out_step = axis.dilation / common};
  // phase + pad_before - tap * dilation is to be a multiple of the stride.
  for (std::int64_t tap = axis.filter - 1; tap >= 0; --tap) {
    const std::int64_t at = phase + axis.pad_before - tap * axis.dilation;
    if (at % axis.stride != 0) continue;
    if (p.taps == 0) {
      p.first_tap = tap;
      p.first_out = at / axis.stride;
    }
    ++p.taps;
  }
  return p;
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_CONV_CONV_AXIS_H_
