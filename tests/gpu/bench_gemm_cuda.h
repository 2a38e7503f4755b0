// TFLOP/s of the matrix products of CUDA.
#ifndef LYCIA_TESTS_GPU_BENCH_GEMM_CUDA_H_
#define LYCIA_TESTS_GPU_BENCH_GEMM_CUDA_H_

#include "runtime/device/device.h"

namespace lycia {

// One line a product and what follows it. One that cannot run (no cuBLASLt) says why.
void BenchCudaGemm(Device& device);

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_BENCH_GEMM_CUDA_H_
