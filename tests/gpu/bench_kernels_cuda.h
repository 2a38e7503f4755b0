// Bandwidth of the kernels that memory bounds, besides layer norm and the optimizer.
#ifndef LYCIA_TESTS_GPU_BENCH_KERNELS_CUDA_H_
#define LYCIA_TESTS_GPU_BENCH_KERNELS_CUDA_H_

#include "tests/gpu/bench_rate_cuda.h"

namespace lycia {

// One line a kernel, in bf16.
void BenchCudaMemoryKernels(RateBench& bench);

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_BENCH_KERNELS_CUDA_H_
