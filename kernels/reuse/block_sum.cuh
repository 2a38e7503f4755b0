// Sums of f64 over a block, in an order that its size alone decides. Device code.
#ifndef LYCIA_KERNELS_REUSE_BLOCK_SUM_CUH_
#define LYCIA_KERNELS_REUSE_BLOCK_SUM_CUH_

#include <cuda_runtime.h>

namespace lycia::cuda {

inline constexpr int kSumThreads = 256;

// Every thread comes, with kCount numbers; thread 0 leaves with their sums.
template <int kCount>
__device__ inline void SumBlock(double (&numbers)[kCount]) {
  constexpr int kWarps = kSumThreads / 32;
  __shared__ double of_warp[kWarps][kCount];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) numbers[i] += __shfl_xor_sync(0xffffffffu, numbers[i], lanes);
    if (lane == 0) of_warp[warp][i] = numbers[i];
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    for (int w = 1; w < kWarps; ++w) numbers[i] += of_warp[w][i];
  }
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_BLOCK_SUM_CUH_
