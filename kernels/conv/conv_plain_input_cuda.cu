// Gradient of a convolution's input, the plain path: phase by phase of the strides (conv_axis.h) a convolution of stride 1 over dout with
// the taps of that phase, so that no tap is multiplied in vain. A block computes 64 input pixels of a phase x 64 channels of a group;
// tiles, bytes and limit as in conv_plain_forward_cuda.cu.
#include <cuda_runtime.h>

#include <numeric>

#include "kernels/conv/conv_plain_cuda.h"
#include "kernels/conv/conv_plain_tile.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// ConvAxis and what all its phases share.
struct PhasedAxis {
  int in, filter, stride, pad, dilation, tap_step, out_step;
  explicit PhasedAxis(const ConvAxis& axis)
      : in(static_cast<int>(axis.in)),
        filter(static_cast<int>(axis.filter)),
        stride(static_cast<int>(axis.stride)),
        pad(static_cast<int>(axis.pad_before)),
        dilation(static_cast<int>(axis.dilation)),
        tap_step(static_cast<int>(axis.stride / std::gcd(axis.stride, axis.dilation))),
        out_step(static_cast<int>(axis.dilation / std::gcd(axis.stride, axis.dilation))) {}
};
// ConvPhase in device code.
struct Phase {
  int phase, count, taps = 0, first_tap = 0, first_out = 0;
  __device__ Phase(const PhasedAxis& axis, int number)
      : phase(number), count(number < axis.in ? (axis.in - number - 1) / axis.stride + 1 : 0) {
    for (int tap = axis.filter - 1; tap >= 0; --tap) {
      const int at = phase + axis.pad - tap * axis.dilation;
      if (at % axis.stride != 0) continue;
      taps = tap / axis.tap_step + 1;
      first_tap = tap;
      first_out = at / axis.stride;
      return;
    }
  }
};

template <typename T, bool kWide>
struct InputProduct {
  using Number = Arithmetic<T>;
  static constexpr bool kLeftAlong = true, kRightAlong = false;
  PlainPatches<T> patches;  // of dout; the phase's numbers are filled in by Begin
  const T* weight;
  T* din;
  PhasedAxis height, width;
  int images, group_C, first_part;
  std::int64_t C;
  bool accumulate;

  // The block's.
  int group = 0, phase_h = 0, phase_w = 0, first_tap_h = 0, first_tap_w = 0, lane = 0;
  bool has_position = false;
  typename PlainPatches<T>::Position at{};

  __device__ bool Begin(int part) {
    part += first_part;
    const int phases = height.stride * width.stride;
    group = part / phases;
    const int both = part - group * phases;
    const Phase h(height, both / width.stride), w(width, both % width.stride);
    patches.data += std::int64_t{group} * patches.channels;
    patches.rows = h.count, patches.cols = w.count;
    patches.first_h = h.first_out, patches.first_w = w.first_out;
    patches.taps_h = h.taps, patches.taps_w = w.taps;
    phase_h = h.phase, phase_w = w.phase;
    first_tap_h = h.first_tap, first_tap_w = w.first_tap;
    return h.count > 0 && w.count > 0;
  }
  __device__ int rows() const { return images * patches.rows * patches.cols; }
  __device__ int columns() const { return group_C; }
  __device__ int begin() const { return 0; }
  __device__ int end() const { return patches.depth(); }
  __device__ void StartLeft(int m) {
    has_position = m < rows();
    if (has_position) at = patches.At(m);
  }
  __device__ void StartRight(int c) { lane = c; }
  __device__ void Left(int d, Number (&to)[kFour]) const {
    if (has_position) patches.template LoadAlong<kWide>(at, d, to);
  }
  __device__ void Right(int d, Number (&to)[kFour]) const {
    if (d >= end() || lane >= group_C) return;
    const int tap = d / patches.channels, k = d - tap * patches.channels, t_h = tap / patches.taps_w, t_w = tap - t_h * patches.taps_w;
    const int r = first_tap_h - t_h * height.tap_step, s = first_tap_w - t_w * width.tap_step;
    const std::int64_t filter = std::int64_t{group} * patches.channels + k;
    LoadFour<kWide>(weight + ((filter * height.filter + r) * width.filter + s) * group_C + lane, group_C - lane, to);
  }
  __device__ void Store(int m, int c, Number sum) const {
    const int line = m / patches.cols, n = line / patches.rows;
    const std::int64_t h = phase_h + (line - n * patches.rows) * height.stride, w = phase_w + (m - line * patches.cols) * width.stride;
    T* to = din + ((n * std::int64_t{height.in} + h) * width.in + w) * C + group * group_C + c;
    if (accumulate) sum += static_cast<Number>(*to);
    *to = Round<T>(sum);
  }
};

template <typename T, bool kWide>
void Launch(Stream& stream, const ConvBackwardInputArgs& args) {
  const ConvShape& s = args.shape;
  const auto number = [](std::int64_t n) { return static_cast<int>(n); };
  const PhasedAxis height(s.height), width(s.width);
  InputProduct<T, kWide> product{.patches = {.data = args.dout.as<T>(),
                                             .H = number(s.P()),
                                             .W = number(s.Q()),
                                             .pixel = s.K,
                                             .channels = number(s.group_K()),
                                             .rows = 0,
                                             .cols = 0,
                                             .first_h = 0,
                                             .first_w = 0,
                                             .step_h = 1,
                                             .step_w = 1,
                                             .taps_h = 0,
                                             .taps_w = 0,
                                             .tap_h = height.out_step,
                                             .tap_w = width.out_step},
                                 .weight = args.weight.as<T>(),
                                 .din = args.din.as<T>(),
                                 .height = height,
                                 .width = width,
                                 .images = number(s.N),
                                 .group_C = number(s.group_C()),
                                 .first_part = 0,
                                 .C = s.C,
                                 .accumulate = args.accumulate};
  // Phase 0 has the most pixels.
  const ConvPhase h = PhaseOf(s.height, 0), w = PhaseOf(s.width, 0);
  const std::int64_t parts = s.groups * s.height.stride * s.width.stride;
  for (std::int64_t first = 0; first < parts; first += kMostGridZ) {
    product.first_part = number(first);
    const dim3 grid(static_cast<unsigned>(ConvTiles(s.N * h.count * w.count)), static_cast<unsigned>(ConvTiles(s.group_C())),
                    static_cast<unsigned>(std::min<std::int64_t>(parts - first, kMostGridZ)));
    const cudaLaunchConfig_t config = LaunchConfig(TargetOf(stream), grid, dim3(kConvThreads));
    const cudaError_t error = cudaLaunchKernelEx(&config, ConvTileKernel<InputProduct<T, kWide>>, product);
    if (error != cudaSuccess) return stream.Fail(ToStatus(error, "ConvBackwardInput", __FILE__, __LINE__, s.ToString()));
  }
}

}  // namespace

void ConvBackwardInputPlain(Stream& stream, const ConvBackwardInputArgs& args) {
  const ConvShape& s = args.shape;
  DispatchAnyStored(args.dout.dtype, [&]<typename T>() {
    const bool wide = AllowsFour(args.dout.as<T>(), s.group_K(), s.K) && AllowsFour(args.weight.as<T>(), s.group_C(), s.group_C());
    return wide ? Launch<T, true>(stream, args) : Launch<T, false>(stream, args);
  });
}

}  // namespace lycia::cuda
