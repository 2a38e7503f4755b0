#include "kernels/norm/layer_norm_cuda_launch.h"

#include <algorithm>

namespace lycia::cuda {

const char* Reject(const NormProblem& problem, const RowLaunch& launch) {
  const int bytes = launch.vector * problem.element_bytes;
  if (bytes > kVectorBytes) return "a load has at most 16 bytes";
  if (launch.vector > 1 && problem.alignment % bytes != 0) return "an operand is not aligned to the load";
  if (launch.vector > 1 && problem.cols % launch.vector != 0)
    return "the row is not a multiple of the load, so the next row is not aligned";
  if (launch.threads_per_row > MaxThreadsPerRow(launch.vector)) return "so many threads have too few registers each";
  if (problem.cols > std::int64_t{kLoadsPerThread} * launch.threads_per_row * launch.vector)
    return "the row does not fit in the registers of its threads";
  // Rows of several warps meet at a barrier of the block, which other rows would have to share.
  if (launch.rows_per_block > 1 && launch.threads_per_row > 32) return "only rows of one warp share a block";
  if (launch.rows_per_block > 1 && launch.blocks(problem) < problem.multiprocessors)
    return "fewer blocks than multiprocessors leave some idle";
  return nullptr;
}

StatusOr<RowLaunch> ChooseRowLaunch(const NormProblem& problem) {
  for (int vector = kVectorBytes / problem.element_bytes; vector >= 1; vector /= 2) {
    for (int threads = 32; threads <= MaxThreadsPerRow(vector); threads *= 2) {
      // Four warps a block: a quarter of the blocks to schedule, and a multiprocessor can still be filled to within four warps.
      for (int rows = 4; rows >= 1; rows /= 2) {
        const RowLaunch launch{vector, threads, rows};
        if (Reject(problem, launch) == nullptr) return launch;
      }
    }
  }
  int best = 0;
  for (int vector = kVectorBytes / problem.element_bytes; vector >= 1; vector /= 2)
    best = std::max(best, kLoadsPerThread * MaxThreadsPerRow(vector) * vector);
  return InvalidArgument("norm over ", problem.cols, " columns of ", problem.element_bytes, " bytes: at most ",
                         kLoadsPerThread * MaxThreadsPerRow(1), " are kept when cols is odd or unaligned, ", best,
                         " at best; use fewer columns or a multiple of 16 bytes");
}

}  // namespace lycia::cuda
