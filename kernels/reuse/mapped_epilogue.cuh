// What follows a sum of a mapped product (gemm.h), for V neighbouring columns at a time. Device code.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_EPILOGUE_CUH_
#define LYCIA_KERNELS_REUSE_MAPPED_EPILOGUE_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/activation/gelu_cuda.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/gemm/gemm.h"

namespace lycia::cuda {

// A matrix beside sums in A: of A, or of bf16 where A is float. Absent when data is null.
template <typename A>
struct MappedOperand {
  void* data = nullptr;
  std::int64_t ld = 0;
  bool bf16 = false;

  template <int V>
  __device__ __forceinline__ Values<A, V> Get(std::int64_t row, std::int64_t col) const {
    if constexpr (std::is_same_v<A, float>) {
      if (bf16) return Load<V>(static_cast<const BFloat16*>(data) + row * ld + col);
    }
    return Load<V>(static_cast<const A*>(data) + row * ld + col);
  }
  template <int V>
  __device__ __forceinline__ void Put(std::int64_t row, std::int64_t col, const Values<A, V>& values) const {
    if constexpr (std::is_same_v<A, float>) {
      if (bf16) return Store<V>(static_cast<BFloat16*>(data) + row * ld + col, values);
    }
    Store<V>(static_cast<A*>(data) + row * ld + col, values);
  }
};

template <typename A>
struct MappedEpilogue {
  MappedOperand<A> c, bias, pre_activation, gelu_input, residual;
  bool add_c = false, gelu = false;

  // c's elements from (row, col) on, of their sums.
  template <int V>
  __device__ __forceinline__ Values<A, V> Apply(std::int64_t row, std::int64_t col, Values<A, V> s) const {
    if (add_c) Add(s, c.template Get<V>(row, col));
    if (bias.data != nullptr) Add(s, bias.template Get<V>(0, col));
    if (pre_activation.data != nullptr) pre_activation.template Put<V>(row, col, s);
    if (gelu) {
#pragma unroll
      for (int k = 0; k < V; ++k) {
        if constexpr (std::is_same_v<A, float>) {
          if (c.bf16) s[k] = static_cast<float>(Round<BFloat16>(s[k]));  // so that it is the GELU of pre_activation
        }
        s[k] = GeluOf(s[k]);
      }
    }
    if (gelu_input.data != nullptr) {
      const Values<A, V> x = gelu_input.template Get<V>(row, col);
#pragma unroll
      for (int k = 0; k < V; ++k) s[k] *= GeluSlopeOf(x[k]);
    }
    if (residual.data != nullptr) Add(s, residual.template Get<V>(row, col));
    return s;
  }

 private:
  template <int V>
  static __device__ __forceinline__ void Add(Values<A, V>& s, const Values<A, V>& x) {
#pragma unroll
    for (int k = 0; k < V; ++k) s[k] += x[k];
  }
};

template <typename A>
MappedEpilogue<A> MappedEpilogueOf(const GemmArgs& gemm) {
  const auto operand = [](const ConstMatrix& m) { return MappedOperand<A>{const_cast<void*>(m.data), m.ld, m.dtype == DType::kBF16}; };
  MappedEpilogue<A> e;
  e.c = operand(gemm.c);
  e.bias = {const_cast<void*>(gemm.bias.data), 0, gemm.bias.dtype == DType::kBF16};
  e.pre_activation = operand(gemm.pre_activation);
  e.gelu_input = operand(gemm.gelu_input);
  e.residual = operand(gemm.residual);
  e.add_c = gemm.accumulate;
  e.gelu = gemm.gelu;
  return e;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_MAPPED_EPILOGUE_CUH_
