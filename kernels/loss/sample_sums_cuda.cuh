// From one number a row to one a sample. Device code.
#ifndef LYCIA_KERNELS_LOSS_SAMPLE_SUMS_CUDA_CUH_
#define LYCIA_KERNELS_LOSS_SAMPLE_SUMS_CUDA_CUH_

#include <cuda_runtime.h>

#include <cstdint>

namespace lycia::cuda {

// sums[b] = the numbers of its `length` rows, added in order: a warp reads 32 at once, and adds one after the other. Grid: one block of 32
// threads a sample.
template <typename T>
__global__ void __launch_bounds__(32) SampleSumsKernel(const T* of_row, std::int64_t length, T* sums) {
  const std::int64_t sample = blockIdx.x;
  T sum = 0;
  for (std::int64_t begin = 0; begin < length; begin += 32) {
    const std::int64_t i = begin + threadIdx.x;
    const T mine = i < length ? of_row[sample * length + i] : T(0);
    for (int lane = 0; lane < 32; ++lane) {
      const T other = __shfl_sync(0xffffffffu, mine, lane);
      if (begin + lane < length) sum += other;
    }
  }
  if (threadIdx.x == 0) sums[sample] = sum;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_LOSS_SAMPLE_SUMS_CUDA_CUH_
