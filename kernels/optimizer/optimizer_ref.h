// The specification of adamw.h and squared_norm.h.
#ifndef LYCIA_KERNELS_OPTIMIZER_OPTIMIZER_REF_H_
#define LYCIA_KERNELS_OPTIMIZER_OPTIMIZER_REF_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace lycia::reference {

// Loshchilov & Hutter 2019, algorithm 2; step counts from 1. One element.
template <typename N>
void AdamW(N gradient, double lr, double clip_factor, std::int64_t step, double beta1, double beta2, double eps, double weight_decay,
           N& weight, N& m, N& v) {
  const N g = N(clip_factor) * gradient;
  weight -= N(lr) * N(weight_decay) * weight;
  m = N(beta1) * m + N(1 - beta1) * g;
  v = N(beta2) * v + N(1 - beta2) * g * g;
  const N m_hat = m / N(1 - std::pow(beta1, step)), v_hat = v / N(1 - std::pow(beta2, step));
  weight -= N(lr) * m_hat / (std::sqrt(v_hat) + N(eps));
}

// sums[i] = sum of the squares of elements [block i, min(block (i + 1), n)).
template <typename N>
void SquaredNormBlocks(std::int64_t n, std::int64_t block, const N* x, double* sums) {
  for (std::int64_t begin = 0; begin < n; begin += block) {
    double sum = 0;
    for (std::int64_t i = begin; i < std::min(begin + block, n); ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    sums[begin / block] = sum;
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_OPTIMIZER_OPTIMIZER_REF_H_
