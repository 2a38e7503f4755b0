// Two numbers of two bytes in a register, the first in the lower half, as the tensor cores take them. Device code, sm_80.
#ifndef LYCIA_KERNELS_CUDA_PAIR_CUH_
#define LYCIA_KERNELS_CUDA_PAIR_CUH_

#include <cstdint>

#include "runtime/core/bfloat16.h"
#include "runtime/core/float16.h"

namespace lycia::cuda {

// Rounded to nearest even.
template <typename T>
__device__ __forceinline__ std::uint32_t PackPair(float low, float high) {
#if defined(LYCIA_EMULATED_CUDA)
  return T(low).bits | static_cast<std::uint32_t>(T(high).bits) << 16;
#else
  static_assert(sizeof(T) == 0, "pairs are of BFloat16 or Float16");
#endif
}

#if !defined(LYCIA_EMULATED_CUDA)
template <>
__device__ __forceinline__ std::uint32_t PackPair<BFloat16>(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
template <>
__device__ __forceinline__ std::uint32_t PackPair<Float16>(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
#endif

template <typename T, int kCount>
__device__ __forceinline__ void PackPairs(const float (&values)[kCount], std::uint32_t (&pairs)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) pairs[i] = PackPair<T>(values[2 * i], values[2 * i + 1]);
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_PAIR_CUH_
