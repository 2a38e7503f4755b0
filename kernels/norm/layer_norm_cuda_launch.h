// How the CUDA layer norms are launched: pure host functions with a reason at each rejection.
#ifndef LYCIA_KERNELS_NORM_LAYER_NORM_CUDA_LAUNCH_H_
#define LYCIA_KERNELS_NORM_LAYER_NORM_CUDA_LAUNCH_H_

#include <cstdint>

#include "runtime/core/status.h"

namespace lycia::cuda {

struct NormProblem {
  std::int64_t rows = 0, cols = 0;
  int element_bytes = 4;  // 4: f32, 8: f64
  int alignment = 16;     // bytes; of the least aligned operand
  int multiprocessors = 132;
};

// Kernels that work row by row (forward, input gradient): a row stays in the registers of its threads, so that it is read once.
struct RowLaunch {
  int vector = 1;  // elements of one load
  int threads_per_row = 32;
  int rows_per_block = 1;

  std::int64_t blocks(const NormProblem& problem) const { return (problem.rows + rows_per_block - 1) / rows_per_block; }
  bool operator==(const RowLaunch&) const = default;
};

// Loads that one thread keeps of a row: 4 of 16 bytes are 16 registers of f32; the input gradient keeps two operands, 32, and stays below
// the 64 registers that 1,024 threads leave each other.
inline constexpr int kLoadsPerThread = 4;
inline constexpr int kVectorBytes = 16;  // the widest load
inline constexpr int kMaxThreadsPerRow = 1024;

// nullptr if `launch` is right for the problem, else the reason.
const char* Reject(const NormProblem& problem, const RowLaunch& launch);
// The first that is not rejected: widest loads, then fewest threads a row, then most rows a block. InvalidArgument if a row is too long.
StatusOr<RowLaunch> ChooseRowLaunch(const NormProblem& problem);

// The kernel that sums over rows (weight and bias gradient): each cluster of blocks takes 32 columns, one a lane, and splits the rows over
// its warps; warps are added through shared memory, blocks through the shared memory of the cluster. Every sum has a fixed order.
struct ColumnLaunch {
  int warps = 32;   // of a block
  int cluster = 8;  // blocks

  std::int64_t tiles(const NormProblem& problem) const { return (problem.cols + kTileColumns - 1) / kTileColumns; }
  bool operator==(const ColumnLaunch&) const = default;

  static constexpr int kTileColumns = 32;  // a warp reads 128 bytes of f32: whole sectors, fully used
  static constexpr int kMaxWarps = 32;
  static constexpr int kMaxCluster = 8;  // what every chip with clusters grants without asking
};

const char* Reject(const NormProblem& problem, const ColumnLaunch& launch);
// The largest that is not rejected; depends on rows and cols alone, so that the order of the sums does too.
ColumnLaunch ChooseColumnLaunch(const NormProblem& problem);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_NORM_LAYER_NORM_CUDA_LAUNCH_H_
