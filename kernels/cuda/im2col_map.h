// What the copy engine is told about images whose patches it reads (im2col mode): plain numbers, and a model of which pixels a copy takes,
// tested without CUDA; tensor_map_cuda.h makes the driver's 128 bytes of them.
//
// The base pixels (w, h, n) of a copy lie in a box of each image, from `lower` to size - 1 + upper, every step_w-th and step_h-th; w runs
// fastest, then h, then n. An offset, the tap, is added to each; what then lies outside the image reads as zero. Source: PTX ISA, "im2col
// mode"; cuTensorMapEncodeIm2col.
#ifndef LYCIA_KERNELS_CUDA_IM2COL_MAP_H_
#define LYCIA_KERNELS_CUDA_IM2COL_MAP_H_

#include <cstdint>

#include "kernels/cuda/tensor_map.h"

namespace lycia::cuda {

inline constexpr int kMaxIm2colChannels = 64;  // 128 bytes: a swizzled row

// Of images [N, H, W, C] of 2-byte elements. A copy writes `pixels` rows of `channels` elements in the 128-byte swizzle of shared_tile.h.
struct Im2colMap {
  std::int64_t C = 0, W = 0, H = 0, N = 0;
  std::int64_t lower_w = 0, lower_h = 0, upper_w = 0, upper_h = 0;
  std::int64_t step_w = 1, step_h = 1;
  int channels = kMaxIm2colChannels, pixels = 0;

  std::int64_t box_bytes() const { return std::int64_t{2} * channels * pixels; }
  std::int64_t base_w(std::int64_t j) const { return lower_w + j * step_w; }
  std::int64_t base_h(std::int64_t i) const { return lower_h + i * step_h; }
  // Base pixels of an image along each axis.
  std::int64_t cols() const { return (W - 1 + upper_w - lower_w) / step_w + 1; }
  std::int64_t rows() const { return (H - 1 + upper_h - lower_h) / step_h + 1; }
  bool operator==(const Im2colMap&) const = default;
};

struct ImagePixel {
  std::int64_t n, h, w;
  bool operator==(const ImagePixel&) const = default;
};
// The i-th pixel that a copy from base pixel `first` takes, before the offset is added; past the last image, n >= N.
inline ImagePixel BasePixelAt(const Im2colMap& map, ImagePixel first, std::int64_t i) {
  for (; i > 0; --i) {
    first.w += map.step_w;
    if (first.w <= map.W - 1 + map.upper_w) continue;
    first.w = map.lower_w;
    first.h += map.step_h;
    if (first.h <= map.H - 1 + map.upper_h) continue;
    first.h = map.lower_h;
    ++first.n;
  }
  return first;
}

inline constexpr int kMaxIm2colPixels = 1024, kMaxIm2colStep = 8, kMaxIm2colOffset = 255, kMaxIm2colCorner = 127;
// Below it the descriptors of some drivers are said not to work in this mode, and a launch costs more than the product.
inline constexpr std::int64_t kLeastIm2colBytes = 128 << 10;

// nullptr if the engine takes the map of images at `address`, else the reason.
inline const char* Reject(const Im2colMap& map, std::uintptr_t address) {
  if (address % kMapAlignment != 0) return "the images do not begin at a multiple of 16 bytes";
  if (map.C * 2 % kMapAlignment != 0) return "a pixel is not a multiple of 16 bytes";
  if (map.channels < 1 || map.channels > kMaxIm2colChannels) return "a row of the box is wider than the 128-byte swizzle";
  if (map.pixels < 1 || map.pixels > kMaxIm2colPixels) return "a copy has 1 to 1,024 pixels";
  for (const std::int64_t size : {map.C, map.W, map.H, map.N}) {
    if (size < 1 || size > INT32_MAX) return "a dimension has 1 to 2^31 elements";
  }
  if (map.H * map.W * map.C * 2 >= kMaxMapStride) return "an image is 2^40 bytes and more";
  if (map.N * map.H * map.W * map.C * 2 < kLeastIm2colBytes) return "the images are smaller than 128 KiB";
  for (const std::int64_t step : {map.step_w, map.step_h}) {
    if (step < 1 || step > kMaxIm2colStep) return "a stride is not 1 to 8";
  }
  for (const std::int64_t corner : {map.lower_w, map.lower_h, map.upper_w, map.upper_h}) {
    if (corner < -kMaxIm2colCorner - 1 || corner > kMaxIm2colCorner) return "a corner of the box lies more than 127 pixels off the image's";
  }
  if (map.W - 1 + map.upper_w < map.lower_w || map.H - 1 + map.upper_h < map.lower_h) return "the box is empty";
  return nullptr;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_IM2COL_MAP_H_
