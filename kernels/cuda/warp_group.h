// Warp groups of 128 threads that play different parts in one block. Device code only, sm_90a.
#ifndef LYCIA_KERNELS_CUDA_WARP_GROUP_H_
#define LYCIA_KERNELS_CUDA_WARP_GROUP_H_

#include <cstdint>

#include "kernels/cuda/exp2.cuh"
#include "kernels/cuda/pair.cuh"

namespace lycia::cuda {

inline constexpr int kWarpThreads = 32;
inline constexpr int kWarpGroupThreads = 128;

// setmaxnreg: the registers that each thread of this warp group keeps or asks for, a multiple of 8.
template <int kRegisters>
__device__ __forceinline__ void ReleaseRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void ClaimRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Hardware barrier `id` (1 to 15; 0 is __syncthreads) of `threads` threads, those that wait and those that only arrive together.
__device__ __forceinline__ void BarrierSync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void BarrierArrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ std::uint32_t PackBf16(float low, float high) { return PackPair<BFloat16>(low, high); }
__device__ __forceinline__ float2 UnpackBf16(std::uint32_t packed) {
  return make_float2(__uint_as_float(packed << 16), __uint_as_float(packed & 0xffff0000u));
}

// The same value, which the compiler takes for a new one: what is computed from it is not kept in registers over a loop.
__device__ __forceinline__ std::uint32_t Recomputed(std::uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_WARP_GROUP_H_
