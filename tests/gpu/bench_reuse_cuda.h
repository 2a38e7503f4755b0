// Computation reuse beside the dense product on CUDA.
#ifndef LYCIA_TESTS_GPU_BENCH_REUSE_CUDA_H_
#define LYCIA_TESTS_GPU_BENCH_REUSE_CUDA_H_

#include "runtime/device/device.h"

namespace lycia {

// A line for each ratio of distinct rows: dense, finding rows, the product with its rows given back, both, and dense over reuse.
void BenchCudaReuse(Device& device);

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_BENCH_REUSE_CUDA_H_
