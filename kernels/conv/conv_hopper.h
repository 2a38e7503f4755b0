// How forward convolutions and input gradients run on Hopper's tensor cores: which products, by which tensor maps, in which tiles. Pure
// host functions, tested without a GPU.
//
// Both are products of patches with filters (conv_plain.h has the table): the copy engine reads patches where they lie, 128 positions x 64
// channels of one tap a copy (kernels/cuda/im2col_map.h), and filters as boxes of [K, R, S, C / groups]. The forward product reads the
// patches of the image; the input gradient, phase by phase of the strides (conv_axis.h), those of dout.
#ifndef LYCIA_KERNELS_CONV_CONV_HOPPER_H_
#define LYCIA_KERNELS_CONV_CONV_HOPPER_H_

#include <cstdint>

#include "kernels/conv/conv_plain.h"
#include "kernels/conv/conv_shape.h"
#include "kernels/cuda/im2col_map.h"
#include "kernels/cuda/shared_tile.h"
#include "kernels/cuda/tensor_map.h"

namespace lycia::cuda {

inline constexpr int kConvRows = 128;           // positions of a tile: 64 for each of two consumer warp groups
inline constexpr int kConvDepth = 64;           // channels of a step
inline constexpr int kConvStages = 4;           // steps in flight
inline constexpr int kConvHopperThreads = 384;  // a producer and two consumers
inline constexpr int kConvMostPhases = 16;      // a launch each
inline constexpr int kSharedPerBlock = 227 << 10;

constexpr int ConvStageBytes(int columns) { return (kConvRows + columns) * kConvDepth * 2; }
// Stages, two barriers for each, and what it takes to begin at a multiple of 1,024.
constexpr int ConvSharedBytes(int columns) { return kConvStages * (ConvStageBytes(columns) + 16) + 1024; }
static_assert(ConvSharedBytes(128) <= kSharedPerBlock);

// Columns of a tile.
constexpr int ConvColumns(std::int64_t columns) { return columns <= 64 ? 64 : 128; }

// One product over a grid of positions (n, i, j). Position (n, i, j) goes to pixel (n, to_h + i * to_step_h, to_w + j * to_step_w) of
// [N, to_H, to_W, groups * columns]; tap (r, s) of it reads the base pixel moved by r * tap_h, s * tap_w and meets filter tap
// first_tap_h + r * tap_step_h, likewise w.
struct ConvProduct {
  Im2colMap images;
  std::int64_t images_count = 0, rows = 0, cols = 0;
  std::int64_t taps_h = 0, taps_w = 0, tap_h = 1, tap_w = 1;
  std::int64_t first_tap_h = 0, first_tap_w = 0, tap_step_h = 1, tap_step_w = 1;
  std::int64_t channels = 0, columns = 0;  // of a group
  std::int64_t to_H = 0, to_W = 0, to_h = 0, to_w = 0, to_step_h = 1, to_step_w = 1;

  std::int64_t positions() const { return images_count * rows * cols; }
  std::int64_t steps() const { return taps_h * taps_w * channels / kConvDepth; }
};

inline ConvProduct ForwardProductOf(const ConvShape& s) {
  ConvProduct p = {.images_count = s.N,
                   .rows = s.P(),
                   .cols = s.Q(),
                   .taps_h = s.R(),
                   .taps_w = s.S(),
                   .tap_h = s.height.dilation,
                   .tap_w = s.width.dilation,
                   .channels = s.group_C(),
                   .columns = s.group_K(),
                   .to_H = s.P(),
                   .to_W = s.Q()};
  p.images = {.C = s.C,
              .W = s.W(),
              .H = s.H(),
              .N = s.N,
              .lower_w = -s.width.pad_before,
              .lower_h = -s.height.pad_before,
              .upper_w = s.width.pad_after - s.width.reach() + 1,
              .upper_h = s.height.pad_after - s.height.reach() + 1,
              .step_w = s.width.stride,
              .step_h = s.height.stride,
              .pixels = kConvRows};
  return p;
}

// Of the input pixels of one phase of each axis. Without taps the images' map is not used: nothing reaches those pixels.
inline ConvProduct InputProductOf(const ConvShape& s, std::int64_t phase_h, std::int64_t phase_w) {
  const ConvPhase h = PhaseOf(s.height, phase_h), w = PhaseOf(s.width, phase_w);
  ConvProduct p = {.images_count = s.N,
                   .rows = h.count,
                   .cols = w.count,
                   .taps_h = w.taps == 0 ? 0 : h.taps,
                   .taps_w = h.taps == 0 ? 0 : w.taps,
                   .tap_h = h.out_step,
                   .tap_w = w.out_step,
                   .first_tap_h = h.first_tap,
                   .first_tap_w = w.first_tap,
                   .tap_step_h = -h.tap_step,
                   .tap_step_w = -w.tap_step,
                   .channels = s.group_K(),
                   .columns = s.group_C(),
                   .to_H = s.H(),
                   .to_W = s.W(),
                   .to_h = h.phase,
                   .to_w = w.phase,
                   .to_step_h = s.height.stride,
                   .to_step_w = s.width.stride};
  p.images = {.C = s.K,
              .W = s.Q(),
              .H = s.P(),
              .N = s.N,
              .lower_w = w.first_out,
              .lower_h = h.first_out,
              .upper_w = w.first_out + w.count - s.Q(),
              .upper_h = h.first_out + h.count - s.P(),
              .pixels = kConvRows};
  return p;
}

// The filters' map, [K, R, S, C / groups], in boxes of 64 channels of one tap of `filters` filters.
inline TensorMap ConvFilterMap(const ConvShape& s, int filters) {
  const std::int64_t C = s.group_C();
  return {.sizes = {C, s.S(), s.R(), s.K}, .strides = {C * 2, s.S() * C * 2, s.R() * s.S() * C * 2}, .box = {64, 1, 1, filters}};
}

// nullptr if the kernel takes the product of bf16 operands at these addresses, else the reason.
inline const char* RejectConvHopper(const ConvShape& s, const ConvProduct& p, const TensorMap& filters, std::uintptr_t images_at,
                                    std::uintptr_t filters_at) {
  if (p.channels % kConvDepth != 0) return "channels that are summed are not a multiple of 64";
  if (p.columns % 8 != 0) return "columns are not a multiple of 8";
  if (const char* reason = Reject(filters, filters_at); reason != nullptr) return reason;
  if (p.taps_h * p.taps_w == 0 || p.positions() == 0) return nullptr;
  if ((p.taps_h - 1) * p.tap_h > kMaxIm2colOffset || (p.taps_w - 1) * p.tap_w > kMaxIm2colOffset)
    return "a tap lies more than 255 pixels off";
  if (s.groups > 65535 || p.columns > 65535 * 64) return "too many groups or columns";
  return Reject(p.images, images_at);
}

// The weight gradient: dout^T [filters][positions] times patches [positions][channels of a tap], tiles of 128 filters x ConvColumns
// channels.
inline constexpr int kWeightPositions = 64;         // of a step
inline constexpr std::int64_t kWeightBlocks = 528;  // four rounds of the 132 multiprocessors of an H100

// The patches of the forward product, 64 positions a copy.
inline ConvProduct WeightProductOf(const ConvShape& s) {
  ConvProduct p = ForwardProductOf(s);
  p.images.pixels = kWeightPositions;
  return p;
}
// dout as [positions, K], in boxes of 64 positions x 64 filters.
inline TensorMap ConvGradientMap(const ConvShape& s) {
  const std::int64_t positions = s.N * s.P() * s.Q(), bytes = positions * s.K * 2;
  return {.sizes = {s.K, positions, 1, 1}, .strides = {s.K * 2, bytes, bytes}, .box = {kPanelColumns, kWeightPositions, 1, 1}};
}
inline std::int64_t ConvFilterTiles(const ConvShape& s) { return (s.group_K() + kConvRows - 1) / kConvRows; }
inline std::int64_t ConvChannelTiles(const ConvShape& s) {
  const int columns = ConvColumns(s.group_C());
  return (s.group_C() + columns - 1) / columns;
}
inline ConvSplits ConvWeightSplits(const ConvShape& s, std::int64_t workspace_bytes) {
  return ChooseSplits({.depth = s.N * s.P() * s.Q(),
                       .step = kWeightPositions,
                       .tiles = s.groups * s.R() * s.S() * ConvFilterTiles(s) * ConvChannelTiles(s),
                       .blocks = kWeightBlocks,
                       .least_depth = 16 * kWeightPositions,
                       .most = kMostGridZ / s.groups,
                       .bytes = s.K * s.R() * s.S() * s.group_C() * 4},
                      workspace_bytes);
}
// nullptr if the kernel takes bf16 operands at these addresses, else the reason.
inline const char* RejectConvWeightHopper(const ConvShape& s, std::uintptr_t in_at, std::uintptr_t dout_at) {
  const ConvProduct p = WeightProductOf(s);
  if (s.group_C() % 8 != 0 || s.group_C() < 32) return "channels of a group are not a multiple of 8, or fewer than 32";
  if (s.group_K() < 32) return "fewer than 32 filters in a group";
  if ((p.taps_h - 1) * p.tap_h > kMaxIm2colOffset || (p.taps_w - 1) * p.tap_w > kMaxIm2colOffset)
    return "a tap lies more than 255 pixels off";
  if (s.groups > kMostGridZ || s.R() * s.S() > kMostGridY) return "too many groups or taps";
  if (const char* reason = Reject(ConvGradientMap(s), dout_at); reason != nullptr) return reason;
  return Reject(p.images, in_at);
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_HOPPER_H_
