// Pools on CUDA, channels last: a thread takes one pack of up to 16 bytes of channels of an output pixel forward, of an input pixel
// backward, so that no two threads write one element (kernels/cuda/map.cuh). Bytes moved: the input and the output once, as far as
// overlapping windows meet in the caches; with a maximum one byte more an output element. Bound by memory bandwidth; share of it: not yet
// run. Sums in the order of the CPU's.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/map.cuh"
#include "kernels/pool/pool.h"

namespace lycia::cuda {
namespace {

// ConvAxis in device code.
struct Axis {
  int in, filter, stride, pad, dilation, out;
  explicit Axis(const ConvAxis& axis)
      : in(static_cast<int>(axis.in)),
        filter(static_cast<int>(axis.filter)),
        stride(static_cast<int>(axis.stride)),
        pad(static_cast<int>(axis.pad_before)),
        dilation(static_cast<int>(axis.dilation)),
        out(static_cast<int>(axis.out())) {}

  // The input position that output o sees through a tap; -1: outside the image.
  __device__ int InputOf(int o, int tap) const {
    const int i = o * stride - pad + tap * dilation;
    return i < in ? (i < 0 ? -1 : i) : -1;
  }
  // The output position that sees input i through a tap; -1: none.
  __device__ int OutputOf(int i, int tap) const {
    const int at = i + pad - tap * dilation;
    if (at < 0 || at % stride != 0) return -1;
    const int o = at / stride;
    return o < out ? o : -1;
  }
  __device__ int Inside(int o) const {
    int count = 0;
    for (int tap = 0; tap < filter; ++tap) count += InputOf(o, tap) >= 0;
    return count;
  }
};

struct Pixel {
  std::int64_t image;
  int row, col;
};
__device__ Pixel PixelOf(std::int64_t index, int rows, int cols) {
  const RowColumn in_row = SplitIndex(index, cols), in_image = SplitIndex(in_row.row, rows);
  return {in_image.row, static_cast<int>(in_image.column), static_cast<int>(in_row.column)};
}

struct Window {
  Axis height, width;
  std::int64_t C;
  __device__ std::int64_t Input(std::int64_t image, int h, int w) const { return ((image * height.in + h) * width.in + w) * C; }
  __device__ std::int64_t Output(std::int64_t image, int p, int q) const { return ((image * height.out + p) * width.out + q) * C; }
};

template <typename T>
struct MaxForwardMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<T>;
  Window s;
  const T* in;
  T* out;
  std::uint8_t* winner;  // or null
  template <int V>
  __device__ void Run(std::int64_t pixel, std::int64_t c) const {
    const Pixel at = PixelOf(pixel, s.height.out, s.width.out);
    Values<A, V> best{};
    int place[V] = {};
    bool first = true;
    for (int r = 0; r < s.height.filter; ++r) {
      const int h = s.height.InputOf(at.row, r);
      if (h < 0) continue;
      for (int t = 0; t < s.width.filter; ++t) {
        const int w = s.width.InputOf(at.col, t);
        if (w < 0) continue;
        const Values<A, V> x = Load<V>(in + s.Input(at.image, h, w) + c);
#pragma unroll
        for (int k = 0; k < V; ++k) {
          // The first of equals; a NaN over every number.
          if (first || x[k] > best[k] || (x[k] != x[k] && best[k] == best[k])) {
            best[k] = x[k];
            place[k] = r * s.width.filter + t;
          }
        }
        first = false;
      }
    }
    Store<V>(out + pixel * s.C + c, best);
    if (winner == nullptr) return;
    Pack<std::uint8_t, V> places;
#pragma unroll
    for (int k = 0; k < V; ++k) places.at[k] = static_cast<std::uint8_t>(place[k]);
    *reinterpret_cast<Pack<std::uint8_t, V>*>(winner + pixel * s.C + c) = places;
  }
};

// Windows over a pixel: rows and columns ascend, so taps descend.
template <typename T>
struct MaxBackwardMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<T>;
  Window s;
  const T* dout;
  const std::uint8_t* winner;
  T* din;
  bool accumulate;
  template <int V>
  __device__ void Run(std::int64_t pixel, std::int64_t c) const {
    const Pixel at = PixelOf(pixel, s.height.in, s.width.in);
    T* to = din + pixel * s.C + c;
    Values<A, V> sum{};
    if (accumulate) sum = Load<V>(to);
    for (int r = s.height.filter - 1; r >= 0; --r) {
      const int p = s.height.OutputOf(at.row, r);
      if (p < 0) continue;
      for (int t = s.width.filter - 1; t >= 0; --t) {
        const int q = s.width.OutputOf(at.col, t);
        if (q < 0) continue;
        const std::int64_t from = s.Output(at.image, p, q) + c;
        const Pack<std::uint8_t, V> places = *reinterpret_cast<const Pack<std::uint8_t, V>*>(winner + from);
        const Values<A, V> d = Load<V>(dout + from);
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k] += places.at[k] == r * s.width.filter + t ? d[k] : A(0);
      }
    }
    Store<V>(to, sum);
  }
};

template <typename T>
struct AverageForwardMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<T>;
  Window s;
  const T* in;
  T* out;
  bool count_padding;
  template <int V>
  __device__ void Run(std::int64_t pixel, std::int64_t c) const {
    const Pixel at = PixelOf(pixel, s.height.out, s.width.out);
    Values<A, V> sum{};
    int count = 0;
    for (int r = 0; r < s.height.filter; ++r) {
      const int h = s.height.InputOf(at.row, r);
      if (h < 0) continue;
#pragma unroll 4
      for (int t = 0; t < s.width.filter; ++t) {
        const int w = s.width.InputOf(at.col, t);
        if (w < 0) continue;
        const Values<A, V> x = Load<V>(in + s.Input(at.image, h, w) + c);
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k] += x[k];
        ++count;
      }
    }
    const A by = static_cast<A>(count_padding ? s.height.filter * s.width.filter : count);
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] /= by;
    Store<V>(out + pixel * s.C + c, sum);
  }
};

template <typename T>
struct AverageBackwardMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<T>;
  Window s;
  const T* dout;
  T* din;
  bool accumulate, count_padding;
  template <int V>
  __device__ void Run(std::int64_t pixel, std::int64_t c) const {
    const Pixel at = PixelOf(pixel, s.height.in, s.width.in);
    T* to = din + pixel * s.C + c;
    Values<A, V> sum{};
    if (accumulate) sum = Load<V>(to);
    for (int r = s.height.filter - 1; r >= 0; --r) {
      const int p = s.height.OutputOf(at.row, r);
      if (p < 0) continue;
      const int rows = count_padding ? s.height.filter : s.height.Inside(p);
      for (int t = s.width.filter - 1; t >= 0; --t) {
        const int q = s.width.OutputOf(at.col, t);
        if (q < 0) continue;
        const A weight = A(1) / static_cast<A>(rows * (count_padding ? s.width.filter : s.width.Inside(q)));
        const Values<A, V> d = Load<V>(dout + s.Output(at.image, p, q) + c);
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k] += d[k] * weight;
      }
    }
    Store<V>(to, sum);
  }
};

void CheckTensors(const PoolShape& s, bool maximum, const ConstTensor& in, const ConstTensor& out) {
  const Status status = CheckPoolShape(s, maximum);
  LYCIA_CHECK(status.ok()) << status.message();
  LYCIA_CHECK_EQ(in.elements(), s.N * s.height.in * s.width.in * s.C);
  LYCIA_CHECK_EQ(out.elements(), s.N * s.P() * s.Q() * s.C);
  LYCIA_CHECK(in.dtype == out.dtype) << "image is " << Name(in.dtype) << ", pooled " << Name(out.dtype) << " ";
}
Window WindowOf(const PoolShape& s) { return {Axis(s.height), Axis(s.width), s.C}; }
std::int64_t InputPixels(const PoolShape& s) { return s.N * s.height.in * s.width.in; }
std::int64_t OutputPixels(const PoolShape& s) { return s.N * s.P() * s.Q(); }

}  // namespace

void MaxPoolForward(Stream& stream, const MaxPoolForwardArgs& args) {
  const std::int64_t C = args.shape.C;
  CheckTensors(args.shape, true, args.in, args.out);
  LYCIA_CHECK(args.winner.data == nullptr || args.winner.elements() == args.out.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const MaxForwardMap<T> f{WindowOf(args.shape), args.in.as<T>(), args.out.as<T>(),
                             args.winner.data == nullptr ? nullptr : args.winner.as<std::uint8_t>()};
    LaunchMap(stream, "MaxPoolForward", OutputPixels(args.shape), C, {Rows(f.in, C), Rows(f.out, C), Rows(f.winner, C)}, f);
  });
}

void MaxPoolBackward(Stream& stream, const MaxPoolBackwardArgs& args) {
  const std::int64_t C = args.shape.C;
  CheckTensors(args.shape, true, args.din, args.dout);
  LYCIA_CHECK_EQ(args.winner.elements(), args.dout.elements());
  DispatchAnyStored(args.din.dtype, [&]<typename T>() {
    const MaxBackwardMap<T> f{WindowOf(args.shape), args.dout.as<T>(), args.winner.as<std::uint8_t>(), args.din.as<T>(), args.accumulate};
    LaunchMap(stream, "MaxPoolBackward", InputPixels(args.shape), C, {Rows(f.dout, C), Rows(f.winner, C), Rows(f.din, C)}, f);
  });
}

void AveragePoolForward(Stream& stream, const AveragePoolForwardArgs& args) {
  const std::int64_t C = args.shape.C;
  CheckTensors(args.shape, false, args.in, args.out);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    const AverageForwardMap<T> f{WindowOf(args.shape), args.in.as<T>(), args.out.as<T>(), args.count_padding};
    LaunchMap(stream, "AveragePoolForward", OutputPixels(args.shape), C, {Rows(f.in, C), Rows(f.out, C)}, f);
  });
}

void AveragePoolBackward(Stream& stream, const AveragePoolBackwardArgs& args) {
  const std::int64_t C = args.shape.C;
  CheckTensors(args.shape, false, args.din, args.dout);
  DispatchAnyStored(args.din.dtype, [&]<typename T>() {
    const AverageBackwardMap<T> f{WindowOf(args.shape), args.dout.as<T>(), args.din.as<T>(), args.accumulate, args.count_padding};
    LaunchMap(stream, "AveragePoolBackward", InputPixels(args.shape), C, {Rows(f.dout, C), Rows(f.din, C)}, f);
  });
}

}  // namespace lycia::cuda
