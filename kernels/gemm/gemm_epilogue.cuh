// What follows a sum of a matrix product (gemm.h), for V neighbouring columns at a time, whoever has made the sum. Device code.
#ifndef LYCIA_KERNELS_GEMM_GEMM_EPILOGUE_CUH_
#define LYCIA_KERNELS_GEMM_GEMM_EPILOGUE_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/activation/gelu_cuda.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/gemm/gemm.h"

namespace lycia::cuda {

// A matrix beside sums in A: of A, or where A is float of H, bf16 or f16. Absent when data is null.
template <typename A, typename H>
struct EpilogueOperand {
  void* data = nullptr;
  std::int64_t ld = 0;
  bool narrow = false;

  MapOperand map() const { return {data, static_cast<std::int64_t>(narrow ? sizeof(H) : sizeof(A)), ld}; }
  template <int V>
  __device__ __forceinline__ Values<A, V> Get(std::int64_t row, std::int64_t col) const {
    if constexpr (std::is_same_v<A, float>) {
      if (narrow) return Load<V>(static_cast<const H*>(data) + row * ld + col);
    }
    return Load<V>(static_cast<const A*>(data) + row * ld + col);
  }
  template <int V>
  __device__ __forceinline__ void Put(std::int64_t row, std::int64_t col, const Values<A, V>& values) const {
    if constexpr (std::is_same_v<A, float>) {
      if (narrow) return Store<V>(static_cast<H*>(data) + row * ld + col, values);
    }
    Store<V>(static_cast<A*>(data) + row * ld + col, values);
  }
};

// Rows of the matrix from `first` on.
template <typename A, typename H>
EpilogueOperand<A, H> EpilogueOperandOf(const ConstMatrix& matrix, std::int64_t first = 0) {
  if (matrix.data == nullptr) return {};
  const std::int64_t skipped = first * matrix.ld * SizeOf(matrix.dtype);
  return {const_cast<char*>(static_cast<const char*>(matrix.data)) + skipped, matrix.ld, matrix.dtype == DTypeOf<H>::value};
}

template <typename A, typename H>
struct GemmEpilogue {
  EpilogueOperand<A, H> c, bias, pre_activation, gelu_input, residual;
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
          if (c.narrow) s[k] = Widen(Round<H>(s[k]));  // so that it is the GELU of pre_activation
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

// Of rows of c from `first` on.
template <typename A, typename H>
GemmEpilogue<A, H> GemmEpilogueOf(const GemmArgs& gemm, std::int64_t first = 0) {
  GemmEpilogue<A, H> e;
  e.c = EpilogueOperandOf<A, H>(gemm.c, first);
  e.bias = EpilogueOperandOf<A, H>({gemm.bias.data, gemm.bias.dtype, 1, gemm.c.cols, 0});
  e.pre_activation = EpilogueOperandOf<A, H>(gemm.pre_activation, first);
  e.gelu_input = EpilogueOperandOf<A, H>(gemm.gelu_input, first);
  e.residual = EpilogueOperandOf<A, H>(gemm.residual, first);
  e.add_c = gemm.accumulate;
  e.gelu = gemm.gelu;
  return e;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_GEMM_GEMM_EPILOGUE_CUH_
