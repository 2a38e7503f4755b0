// How kernels that reduce the columns of a matrix (sums over its rows) are launched: pure host functions, tested without a GPU.
//
// A block takes a tile of columns, one pack of 16 bytes a lane, and every splits-th run of `warps` rows; then its warps are merged in
// order, then, by a second kernel, the blocks of a column. The order depends on the sizes alone.
#ifndef LYCIA_KERNELS_CUDA_COLUMN_LAUNCH_H_
#define LYCIA_KERNELS_CUDA_COLUMN_LAUNCH_H_

#include <algorithm>
#include <cstdint>

namespace lycia::cuda {

inline constexpr int kColumnWarps = 16;    // at most, of a block: two blocks keep 128 KiB on the way in a multiprocessor
inline constexpr int kFinishWarps = 8;     // of a block of the second kernel
inline constexpr int kColumnBlocks = 264;  // two for each of 132 multiprocessors; fixed, so that the order is
inline constexpr int kRowsOfWarp = 4;      // at least: so many loads a warp keeps on the way

struct ColumnProblem {
  std::int64_t groups = 1, rows = 0, cols = 0;  // rows of one group
  int widest = 4;                               // elements of 16 bytes
};
struct ColumnLaunch {
  int warps = 1;
  int splits = 1;
  bool operator==(const ColumnLaunch&) const = default;
};

inline std::int64_t ColumnTiles(const ColumnProblem& p, int vector) { return (p.cols + 32 * vector - 1) / (32 * vector); }

// splits * cols partial results of a group stand in scratch, if there is more than one split.
inline ColumnLaunch ChooseColumnLaunch(const ColumnProblem& p) {
  ColumnLaunch launch;
  while (launch.warps < kColumnWarps && 2 * launch.warps * kRowsOfWarp <= p.rows) launch.warps *= 2;
  const std::int64_t useful = p.rows / (std::int64_t{launch.warps} * kRowsOfWarp);
  const std::int64_t wanted = kColumnBlocks / std::max<std::int64_t>(1, ColumnTiles(p, p.widest) * p.groups);
  launch.splits = static_cast<int>(std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, useful)));
  return launch;
}

// Of `rows` rows, those whose number modulo `stride` lies in [first, first + length).
constexpr std::int64_t RowsTaken(std::int64_t rows, std::int64_t stride, std::int64_t first, std::int64_t length) {
  const std::int64_t rest = rows % stride - first;
  return rows / stride * length + (rest < 0 ? 0 : rest < length ? rest : length);
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_COLUMN_LAUNCH_H_
