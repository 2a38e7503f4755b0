// Rows with equal keys become clusters: kernels over any keys (row_words.cuh, patch_words.cuh), and their launch. Device code.
//   sign  a warp signs a row and puts its signature into a table: the slot by compare and swap, the lowest row of the signature by an
//   atomic
//         maximum. Which slot a signature gets depends on who comes first; the lowest row does not
//   link  a warp compares its row with the lowest of its signature. Where they differ (signatures of different rows that are equal: once in
//         2^64 pairs, or made so) it looks for the lowest row below that has the signature and is alike
//   then number_clusters_cuda.h
#ifndef LYCIA_KERNELS_REUSE_CLUSTER_ROWS_CUH_
#define LYCIA_KERNELS_REUSE_CLUSTER_ROWS_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/reuse/number_clusters_cuda.h"
#include "kernels/reuse/row_words.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

inline constexpr int kRowWarps = 8;  // of a block, a row each
inline unsigned RowBlocks(std::int64_t rows) { return static_cast<unsigned>((rows + kRowWarps - 1) / kRowWarps); }

template <typename Keys>
__global__ void __launch_bounds__(32 * kRowWarps)
    SignRowsKernel(Keys keys, std::int64_t rows, ClusterWorkspace workspace, unsigned long long last_slot) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = std::int64_t{blockIdx.x} * kRowWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= rows) return;
  unsigned long long signature = keys.Signature(row, lane);
  if (signature == 0) signature = 1;  // 0: a free slot
  if (lane != 0) return;
  unsigned long long slot = signature & last_slot;
  for (;; slot = (slot + 1) & last_slot) {
    const unsigned long long found = atomicCAS(&workspace.table[slot], 0ull, signature);
    if (found == 0 || found == signature) break;
  }
  atomicMax(&workspace.lowest[slot], static_cast<std::int32_t>(rows - row));
  workspace.signatures[row] = signature;
  workspace.slots[row] = static_cast<std::int32_t>(slot);
}

template <typename Keys>
__global__ void __launch_bounds__(32 * kRowWarps) LinkRowsKernel(Keys keys, std::int64_t rows, ClusterWorkspace workspace) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = std::int64_t{blockIdx.x} * kRowWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= rows) return;
  const std::int64_t lowest = rows - workspace.lowest[workspace.slots[row]];
  std::int64_t first = row;
  if (lowest == row || keys.Equal(row, lowest, lane)) {
    first = lowest;
  } else {
    const unsigned long long signature = workspace.signatures[row];
    for (std::int64_t from = lowest + 1; from < row && first == row; from += 32) {
      const bool same = from + lane < row && workspace.signatures[from + lane] == signature;
      for (unsigned left = __ballot_sync(kAllLanes, same); left != 0 && first == row; left &= left - 1) {
        const std::int64_t other = from + __ffs(static_cast<int>(left)) - 1;
        if (keys.Equal(row, other, lane)) first = other;
      }
    }
  }
  if (lane == 0) workspace.firsts[row] = static_cast<std::int32_t>(first);
}

// memory: a ClusterWorkspace. Fills the map.
template <typename Keys>
void ClusterByKeys(Stream& stream, const char* kernel, const Keys& keys, const IndexMap& map, void* memory) {
  const StreamTarget target = TargetOf(stream);
  const ClusterWorkspace workspace = ClusterWorkspaceIn(memory, map.extent);
  if (map.extent > 0) {
    stream.Zero(memory, workspace.table_bytes);
    const cudaLaunchConfig_t config = LaunchConfig(target, dim3(RowBlocks(map.extent)), dim3(32 * kRowWarps));
    const auto last_slot = static_cast<unsigned long long>(TableSlots(map.extent) - 1);
    cudaError_t error = cudaLaunchKernelEx(&config, SignRowsKernel<Keys>, keys, map.extent, workspace, last_slot);
    if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, LinkRowsKernel<Keys>, keys, map.extent, workspace);
    if (error != cudaSuccess) return stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, map.ToString()));
  }
  NumberClusters(stream, map, workspace);
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_CLUSTER_ROWS_CUH_
