// The specification of gemm.h: three loops, and what follows them. N is float, double or std::complex<double>; all matrices contiguous.
#ifndef LYCIA_KERNELS_GEMM_GEMM_REF_H_
#define LYCIA_KERNELS_GEMM_GEMM_REF_H_

#include <cstdint>

#include "kernels/activation/gelu_ref.h"

namespace lycia::reference {

// c[i][j] (+)= sum over k of op(a)[i][k] op(b)[k][j] + bias[j] + residual[i][j]; bias and residual may be null.
template <typename N>
void Gemm(std::int64_t m, std::int64_t n, std::int64_t k, const N* a, bool transpose_a, const N* b, bool transpose_b, N* c, bool accumulate,
          const N* bias = nullptr, const N* residual = nullptr) {
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      N sum = accumulate ? c[i * n + j] : N(0);
      for (std::int64_t p = 0; p < k; ++p) sum += (transpose_a ? a[p * m + i] : a[i * k + p]) * (transpose_b ? b[j * k + p] : b[p * n + j]);
      if (bias != nullptr) sum += bias[j];
      if (residual != nullptr) sum += residual[i * n + j];
      c[i * n + j] = sum;
    }
  }
}

// What follows s, an element of the product with bias: GELU or not, times the slope of GELU at *gelu_input, plus *residual; both may be
// null.
template <typename N>
N GemmEpilogue(N s, bool gelu, const N* gelu_input, const N* residual) {
  if (gelu) s = Gelu(s);
  if (gelu_input != nullptr) s *= GeluSlope(*gelu_input);
  return residual == nullptr ? s : s + *residual;
}

// dbias += column sums of dout [rows, n].
template <typename N>
void BiasGradient(std::int64_t rows, std::int64_t n, const N* dout, N* dbias) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < n; ++j) dbias[j] += dout[i * n + j];
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_GEMM_GEMM_REF_H_
