#include "kernels/norm/layer_norm_cuda_launch.h"

namespace lycia::cuda {

const char* Reject(const NormProblem& problem, const RowLaunch& launch) {
  const int bytes = launch.vector * problem.element_bytes;
  if (bytes > kVectorBytes) return "a load has at most 16 bytes";
  if (launch.vector > 1 && problem.alignment % bytes != 0) return "an operand is not aligned to the load";
  if (launch.vector > 1 && problem.cols % launch.vector != 0)
    return "the row is not a multiple of the load, so the next row is not aligned";
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
    for (int threads = 32; threads <= kMaxThreadsPerRow; threads *= 2) {
      // Four warps a block: a quarter of the blocks to schedule, and a multiprocessor can still be filled to within four warps.
      for (int rows = 4; rows >= 1; rows /= 2) {
        const RowLaunch launch{vector, threads, rows};
        if (Reject(problem, launch) == nullptr) return launch;
      }
    }
  }
  const int vector = problem.alignment >= kVectorBytes ? kVectorBytes / problem.element_bytes : 1;
  return InvalidArgument("layer norm over ", problem.cols, " columns of ", problem.element_bytes, " bytes: at most ",
                         kLoadsPerThread * kMaxThreadsPerRow, " are kept when cols is odd or unaligned, ",
                         kLoadsPerThread * kMaxThreadsPerRow * vector, " at best; use fewer columns or a multiple of 16 bytes");
}

const char* Reject(const NormProblem& problem, const ColumnLaunch& launch) {
  if (launch.warps > ColumnLaunch::kMaxWarps) return "a block has at most 1,024 threads";
  if (launch.cluster > ColumnLaunch::kMaxCluster) return "a portable cluster has at most 8 blocks";
  // Each warp has four rows in flight; with fewer it adds a step to both reductions and hides no latency.
  if (launch.warps * launch.cluster > 1 && problem.rows < 4LL * launch.warps * launch.cluster)
    return "a warp would have fewer than four rows";
  return nullptr;
}

ColumnLaunch ChooseColumnLaunch(const NormProblem& problem) {
  // Blocks of the cluster are given up after warps of the block: they spread over multiprocessors.
  constexpr ColumnLaunch kCandidates[] = {{32, 8}, {16, 8}, {8, 8}, {8, 4}, {8, 2}, {8, 1}, {4, 1}, {2, 1}};
  for (const ColumnLaunch& launch : kCandidates) {
    if (Reject(problem, launch) == nullptr) return launch;
  }
  return {1, 1};
}

}  // namespace lycia::cuda
