// What a stream's cuBLASLt plans tell of themselves.
#ifndef LYCIA_KERNELS_GEMM_GEMM_CUDA_H_
#define LYCIA_KERNELS_GEMM_GEMM_CUDA_H_

#include <cstdint>

#include "runtime/device/device.h"

namespace lycia::cuda {

// Different products that the stream has seen: constant once a step has been made.
std::int64_t NumGemmPlans(Stream& stream);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_GEMM_GEMM_CUDA_H_
