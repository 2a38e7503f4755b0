// 2^x by the special function unit. Device code.
#ifndef LYCIA_KERNELS_CUDA_EXP2_CUH_
#define LYCIA_KERNELS_CUDA_EXP2_CUH_

#include <cmath>

namespace lycia::cuda {

// Two units in the last place; 2^-infinity = 0; results below 2^-126 are zero.
__device__ __forceinline__ float Exp2(float x) {
#if defined(LYCIA_EMULATED_CUDA)
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0 : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_EXP2_CUH_
