// GELU (gelu.h) of one number on the device, for the activation itself and for what follows a matrix product.
#ifndef LYCIA_KERNELS_ACTIVATION_GELU_CUDA_CUH_
#define LYCIA_KERNELS_ACTIVATION_GELU_CUDA_CUH_

#include <cuda_runtime.h>

#include <cmath>

namespace lycia::cuda {

__device__ __forceinline__ float Exp(float x) { return expf(x); }
__device__ __forceinline__ double Exp(double x) { return exp(x); }

// 1 / (1 + exp(-x)).
template <typename A>
__device__ __forceinline__ A Logistic(A x) {
  return A(1) / (A(1) + Exp(-x));
}

// With u = sqrt(2/pi) (x + 0.044715 x³), 1/2 (1 + tanh(u)) = logistic(2 u): one exponential.
inline constexpr double kTwoRootTwoOverPi = 1.5957691216057307117597842397375;
inline constexpr double kGeluCubic = 0.044715;

template <typename A>
__device__ __forceinline__ A GeluOf(A x) {
  return x * Logistic(A(kTwoRootTwoOverPi) * (x + A(kGeluCubic) * x * x * x));
}

// s = logistic(2 u): s + x s (1 - s) (2 u)'. Beyond +-30 that is 1 or 0, where x² might overflow.
template <typename A>
__device__ __forceinline__ A GeluSlopeOf(A x) {
  const A bound = 30;
  x = x > bound ? bound : x < -bound ? -bound : x;  // a NaN stays
  const A s = Logistic(A(kTwoRootTwoOverPi) * (x + A(kGeluCubic) * x * x * x));
  return s + x * s * (A(1) - s) * A(kTwoRootTwoOverPi) * (A(1) + A(3 * kGeluCubic) * x * x);
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ACTIVATION_GELU_CUDA_CUH_
