// How the plain convolutions on CUDA are launched: pure host functions, tested without a GPU.
//
// All three products of a convolution are c[row][column] = sum over depth of left[row][depth] * right[column][depth], group by group:
//
//   product          rows                       columns        depth
//   forward          outputs (n, p, q)          filters k      (r, s, c)
//   input gradient   inputs (n, i, j) of a      channels c     (r, s, k), the taps of that phase (conv_axis.h)
//                    phase of both axes
//   weight gradient  filters k                  (r, s, c)      outputs (n, p, q)
//
// A block computes a tile of 64 x 64, 16 of the depth at a time. The weight gradient has few tiles and a long depth, which is split among
// blocks; the partial sums stand in the stream's workspace and are added in order of the splits.
#ifndef LYCIA_KERNELS_CONV_CONV_PLAIN_H_
#define LYCIA_KERNELS_CONV_CONV_PLAIN_H_

#include <algorithm>
#include <cstdint>

#include "kernels/conv/conv_shape.h"

namespace lycia::cuda {

inline constexpr int kConvTile = 64;       // rows, and columns, of a block
inline constexpr int kConvTileDepth = 16;  // of one step
inline constexpr int kConvThreads = 256;   // each computes 4 x 4 and reads 4 elements of each operand a step
inline constexpr int kMostGridZ = 65535;
inline constexpr int kMostGridY = 65535;

constexpr std::int64_t ConvTiles(std::int64_t lanes) { return (lanes + kConvTile - 1) / kConvTile; }

struct ConvSplits {
  int splits = 1;
  std::int64_t depth_each = 0;  // a multiple of kConvTileDepth; the last split has what is left
  bool operator==(const ConvSplits&) const = default;
};

struct SplitProblem {
  std::int64_t depth = 0, step = 1, tiles = 1;
  std::int64_t blocks = 1;       // wanted: the same on all chips, so that sums do not depend on the chip
  std::int64_t least_depth = 1;  // of a split: below it the partial sums cost more than they bring
  std::int64_t most = 1;         // splits
  std::int64_t bytes = 0;        // of the sums of one split
};
// Partial sums of all splits fit the workspace.
inline ConvSplits ChooseSplits(const SplitProblem& p, std::int64_t workspace_bytes) {
  const std::int64_t wanted = std::min({p.blocks / p.tiles, p.depth / p.least_depth, workspace_bytes / p.bytes, p.most});
  const std::int64_t splits = std::max<std::int64_t>(1, wanted), steps = (p.depth + p.step - 1) / p.step;
  const std::int64_t each = (steps + splits - 1) / splits;
  return {.splits = static_cast<int>(each == 0 ? 1 : (steps + each - 1) / each), .depth_each = each * p.step};
}

inline constexpr std::int64_t kConvBlocksWanted = 1024;  // a few rounds of any chip
inline constexpr std::int64_t kConvLeastSplitDepth = 256;

// Of the plain weight gradient.
inline ConvSplits ChooseConvSplits(const ConvShape& s, std::int64_t number_bytes, std::int64_t workspace_bytes) {
  const std::int64_t columns = s.R() * s.S() * s.group_C();
  return ChooseSplits({.depth = s.N * s.P() * s.Q(),
                       .step = kConvTileDepth,
                       .tiles = s.groups * ConvTiles(s.group_K()) * ConvTiles(columns),
                       .blocks = kConvBlocksWanted,
                       .least_depth = kConvLeastSplitDepth,
                       .most = kMostGridZ / s.groups,
                       .bytes = s.K * columns * number_bytes},
                      workspace_bytes);
}

// nullptr, or why the kernels, which count positions and offsets in a filter in 32 bits, cannot take the shape.
inline const char* RejectConvPlain(const ConvShape& s) {
  constexpr std::int64_t kMost = INT32_MAX / 2;
  if (s.N * s.P() * s.Q() > kMost || s.N * s.H() * s.W() > kMost) return "more than 2^30 pixels; split the images among calls";
  if (s.R() * s.S() * std::max(s.group_C(), s.group_K()) > kMost) return "a filter of more than 2^30 elements";
  if (ConvTiles(s.group_K()) > kMostGridY || ConvTiles(s.R() * s.S() * s.group_C()) > kMostGridY) return "more than 2^22 filters or taps";
  if (s.groups > kMostGridZ) return "more than 65,535 groups";
  const std::int64_t padded_h = s.H() + s.height.pad_before + s.height.pad_after, padded_w = s.W() + s.width.pad_before + s.width.pad_after;
  if (padded_h > kMost || padded_w > kMost) return "padding of more than 2^30 pixels";
  return nullptr;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CONV_CONV_PLAIN_H_
