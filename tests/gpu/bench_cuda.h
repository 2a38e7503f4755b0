// The bandwidth table of the CUDA kernels.
#ifndef LYCIA_TESTS_GPU_BENCH_CUDA_H_
#define LYCIA_TESTS_GPU_BENCH_CUDA_H_

#include "runtime/core/status.h"

namespace lycia {

// Prints one line a kernel and size. Unavailable, "no GPU: ...", where there is none.
Status BenchCudaKernels();

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_BENCH_CUDA_H_
