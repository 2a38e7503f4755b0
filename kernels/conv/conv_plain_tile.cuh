// The tile that all plain convolutions on CUDA share (conv_plain.h), and what reads images and filters into it. Device code.
//
// A product is a struct: Begin finds the block's part, from which rows(), columns(), begin() and end() of the depth follow; Left and Right
// read four elements for the calling thread; Store takes a sum. An operand whose depth is contiguous in memory is read along it (a thread
// has one lane and four of the depth), the others along their lanes (one of the depth, four lanes).
#ifndef LYCIA_KERNELS_CONV_CONV_PLAIN_TILE_CUH_
#define LYCIA_KERNELS_CONV_CONV_PLAIN_TILE_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/conv/conv_plain.h"
#include "kernels/cuda/pack.cuh"

namespace lycia::cuda {

inline constexpr int kFour = 4;  // elements of an operand that a thread reads in a step

// Four elements of T in a row: by wide loads where kWide (aligned to 16 bytes, or to all four), else one by one, as far as `count`.
template <bool kWide, typename T>
__device__ __forceinline__ void LoadFour(const T* from, int count, Arithmetic<T> (&to)[kFour]) {
  if constexpr (kWide) {
    constexpr int kAtOnce = kFour < kWidest<T> ? kFour : kWidest<T>;
#pragma unroll
    for (int begin = 0; begin < kFour; begin += kAtOnce) {
      const Values<Arithmetic<T>, kAtOnce> part = Load<kAtOnce>(from + begin);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) to[begin + i] = part[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      if (i < count) to[i] = Widen(from[i]);
    }
  }
}
// Whether data and rows of `ld` elements allow the wide loads; `run` elements are contiguous.
template <typename T>
bool AllowsFour(const T* data, std::int64_t run, std::int64_t ld) {
  constexpr std::uintptr_t kBytes = kFour * sizeof(T) < kWidestAccess ? kFour * sizeof(T) : kWidestAccess;
  return run % kFour == 0 && ld % kFour == 0 && reinterpret_cast<std::uintptr_t>(data) % kBytes == 0;
}

// Positions (n, i, j) of a grid over images, and taps (r, s) of a window there: pixel h = first_h + i * step_h + r * tap_h, w likewise.
template <typename T>
struct PlainPatches {
  const T* data;       // channel 0 (of a group) of pixel 0
  int H, W;            // of an image
  std::int64_t pixel;  // elements from a pixel to the next
  int channels;        // of the group
  int rows, cols;      // of the grid
  int first_h, first_w, step_h, step_w;
  int taps_h, taps_w, tap_h, tap_w;

  struct Position {
    const T* image;
    int h, w;  // that tap (0, 0) sees
  };
  __device__ __forceinline__ Position At(int m) const {
    const int line = m / cols, n = line / rows;
    return {data + std::int64_t{n} * H * W * pixel, first_h + (line - n * rows) * step_h, first_w + (m - line * cols) * step_w};
  }
  // nullptr: outside the image.
  __device__ __forceinline__ const T* Pixel(const Position& at, int r, int s) const {
    const int h = at.h + r * tap_h, w = at.w + s * tap_w;
    if (h < 0 || h >= H || w < 0 || w >= W) return nullptr;
    return at.image + (std::int64_t{h} * W + w) * pixel;
  }
  __device__ __forceinline__ int depth() const { return taps_h * taps_w * channels; }
  // Elements d .. d + 3 of the patch at a position; zeros outside the image and from depth() on.
  template <bool kWide>
  __device__ __forceinline__ void LoadAlong(const Position& at, int d, Arithmetic<T> (&to)[kFour]) const {
    int tap = d / channels, c = d - tap * channels;
    int r = tap / taps_w, s = tap - r * taps_w;
    if constexpr (kWide) {
      const T* from = r < taps_h ? Pixel(at, r, s) : nullptr;
      if (from != nullptr) LoadFour<true>(from + c, kFour, to);
    } else {
#pragma unroll
      for (int i = 0; i < kFour; ++i) {
        if (r >= taps_h) break;
        const T* from = Pixel(at, r, s);
        if (from != nullptr) to[i] = Widen(from[c]);
        if (++c == channels) {
          c = 0;
          if (++s == taps_w) s = 0, ++r;
        }
      }
    }
  }
};

// Those that a convolution of this shape multiplies, of group 0; RejectConvPlain has no reason against it.
template <typename T>
PlainPatches<T> PlainPatchesOf(const ConvShape& s, const void* in) {
  const auto number = [](std::int64_t n) { return static_cast<int>(n); };
  return {.data = static_cast<const T*>(in),
          .H = number(s.H()),
          .W = number(s.W()),
          .pixel = s.C,
          .channels = number(s.group_C()),
          .rows = number(s.P()),
          .cols = number(s.Q()),
          .first_h = -number(s.height.pad_before),
          .first_w = -number(s.width.pad_before),
          .step_h = number(s.height.stride),
          .step_w = number(s.width.stride),
          .taps_h = number(s.R()),
          .taps_w = number(s.S()),
          .tap_h = number(s.height.dilation),
          .tap_w = number(s.width.dilation)};
}

template <typename P>
__global__ void __launch_bounds__(kConvThreads) ConvTileKernel(P product) {
  using A = typename P::Number;
  __shared__ A left[kConvTileDepth][kConvTile + kFour], right[kConvTileDepth][kConvTile + kFour];
  if (!product.Begin(static_cast<int>(blockIdx.z))) return;
  const std::int64_t first_row = std::int64_t{blockIdx.x} * kConvTile, first_column = std::int64_t{blockIdx.y} * kConvTile;
  if (first_row >= product.rows() || first_column >= product.columns()) return;
  const int thread = static_cast<int>(threadIdx.x);
  const int along_lane = thread / kFour, along_depth = thread % kFour * kFour;  // depth contiguous
  const int across_depth = thread / 16, across_lane = thread % 16 * kFour;      // lanes contiguous
  const int row = thread / 16 * kFour, column = thread % 16 * kFour;            // of the 4 x 4 sums
  product.StartLeft(static_cast<int>(first_row) + (P::kLeftAlong ? along_lane : across_lane));
  product.StartRight(static_cast<int>(first_column) + (P::kRightAlong ? along_lane : across_lane));

  A sum[kFour][kFour] = {};
  const int end = product.end();
  for (int d = product.begin(); d < end; d += kConvTileDepth) {
    A l[kFour] = {}, r[kFour] = {};
    product.Left(d + (P::kLeftAlong ? along_depth : across_depth), l);
    product.Right(d + (P::kRightAlong ? along_depth : across_depth), r);
    __syncthreads();  // the last step's tiles have been read
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      if constexpr (P::kLeftAlong)
        left[along_depth + i][along_lane] = l[i];
      else
        left[across_depth][across_lane + i] = l[i];
      if constexpr (P::kRightAlong)
        right[along_depth + i][along_lane] = r[i];
      else
        right[across_depth][across_lane + i] = r[i];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kConvTileDepth; ++k) {
      A x[kFour], y[kFour];
#pragma unroll
      for (int i = 0; i < kFour; ++i) x[i] = left[k][row + i], y[i] = right[k][column + i];
#pragma unroll
      for (int i = 0; i < kFour; ++i) {
#pragma unroll
        for (int j = 0; j < kFour; ++j) sum[i][j] += x[i] * y[j];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    const std::int64_t m = first_row + row + i;
    if (m >= product.rows()) break;
#pragma unroll
    for (int j = 0; j < kFour; ++j) {
      if (first_column + column + j < product.columns())
        product.Store(static_cast<int>(m), static_cast<int>(first_column + column + j), sum[i][j]);
    }
  }
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_PLAIN_TILE_CUH_
