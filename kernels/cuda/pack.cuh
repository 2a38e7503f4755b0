// Loads and stores of up to 16 bytes, widened to and rounded from what a kernel computes in. Device code.
#ifndef LYCIA_KERNELS_CUDA_PACK_CUH_
#define LYCIA_KERNELS_CUDA_PACK_CUH_

#include <cstdint>

#include "kernels/cuda/map_launch.h"
#include "runtime/core/dtype.h"

namespace lycia::cuda {

template <typename T>
inline constexpr int kWidest = kWidestAccess / static_cast<int>(sizeof(T));  // elements of one access

template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};
// V numbers in registers.
template <typename A, int V>
struct Values {
  A at[V];
  __device__ A& operator[](int k) { return at[k]; }
  __device__ const A& operator[](int k) const { return at[k]; }
};

template <typename T>
__device__ __forceinline__ T Round(const Arithmetic<T>& value) {
  return value;
}
template <>
__device__ __forceinline__ BFloat16 Round<BFloat16>(const float& value) {
#if defined(__CUDA_ARCH__)
  unsigned short bits;  // one instruction (sm_80) instead of five; of a NaN the payload is lost
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return BFloat16::FromBits(bits);
#else
  return BFloat16(value);
#endif
}
template <>
__device__ __forceinline__ Float16 Round<Float16>(const float& value) {
#if defined(__CUDA_ARCH__)
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return Float16::FromBits(bits);
#else
  return Float16(value);
#endif
}

template <typename T>
__device__ __forceinline__ Arithmetic<T> Widen(const T& value) {
  return static_cast<Arithmetic<T>>(value);
}
template <>
__device__ __forceinline__ float Widen<Float16>(const Float16& value) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
#else
  return static_cast<float>(value);
#endif
}

template <int V, typename T>
__device__ __forceinline__ Values<Arithmetic<T>, V> Load(const T* from) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
  Values<Arithmetic<T>, V> values;
#pragma unroll
  for (int k = 0; k < V; ++k) values[k] = Widen(pack.at[k]);
  return values;
}
// V numbers of A beside packs of a narrower type: of f32 beside eight of bf16, two loads.
template <int V, typename A>
__device__ __forceinline__ Values<A, V> LoadStatistics(const A* from) {
  constexpr int kAtOnce = V < kWidest<A> ? V : kWidest<A>;
  Values<A, V> values;
#pragma unroll
  for (int begin = 0; begin < V; begin += kAtOnce) {
    const Values<A, kAtOnce> part = Load<kAtOnce>(from + begin);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) values[begin + k] = part[k];
  }
  return values;
}
template <int V, typename T>
__device__ __forceinline__ void Store(T* to, const Values<Arithmetic<T>, V>& values) {
  Pack<T, V> pack;
#pragma unroll
  for (int k = 0; k < V; ++k) pack.at[k] = Round<T>(values[k]);
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_PACK_CUH_
