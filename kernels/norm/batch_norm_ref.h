// The specification of batch_norm.h for one group of R rows. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_NORM_BATCH_NORM_REF_H_
#define LYCIA_KERNELS_NORM_BATCH_NORM_REF_H_

#include <cmath>
#include <cstdint>

namespace lycia::reference {

// in [R, C] -> mean, variance, rstd [C].
template <typename N>
void BatchNormStatistics(std::int64_t R, std::int64_t C, const N* in, double eps, N* mean, N* variance, N* rstd) {
  using std::sqrt;
  for (std::int64_t c = 0; c < C; ++c) {
    N sum = 0, squares = 0;
    for (std::int64_t r = 0; r < R; ++r) sum += in[r * C + c];
    mean[c] = sum / N(static_cast<double>(R));
    for (std::int64_t r = 0; r < R; ++r) squares += (in[r * C + c] - mean[c]) * (in[r * C + c] - mean[c]);
    variance[c] = squares / N(static_cast<double>(R));
    rstd[c] = N(1) / sqrt(variance[c] + N(eps));
  }
}

// out = (in - mean) rstd gamma + beta (+ residual, unless null).
template <typename N>
void BatchNormApply(std::int64_t R, std::int64_t C, const N* in, const N* mean, const N* rstd, const N* gamma, const N* beta,
                    const N* residual, N* out) {
  for (std::int64_t i = 0; i < R * C; ++i) {
    const std::int64_t c = i % C;
    out[i] = (in[i] - mean[c]) * rstd[c] * gamma[c] + beta[c];
    if (residual != nullptr) out[i] += residual[i];
  }
}

// sum_d, sum_dn [C] of d [R, C].
template <typename N>
void BatchNormBackwardSums(std::int64_t R, std::int64_t C, const N* d, const N* in, const N* mean, const N* rstd, N* sum_d, N* sum_dn) {
  for (std::int64_t c = 0; c < C; ++c) sum_d[c] = sum_dn[c] = 0;
  for (std::int64_t i = 0; i < R * C; ++i) {
    const std::int64_t c = i % C;
    sum_d[c] += d[i];
    sum_dn[c] += d[i] * (in[i] - mean[c]) * rstd[c];
  }
}

template <typename N>
void BatchNormBackwardInput(std::int64_t R, std::int64_t C, const N* d, const N* in, const N* gamma, const N* mean, const N* rstd,
                            const N* sum_d, const N* sum_dn, N* din) {
  for (std::int64_t i = 0; i < R * C; ++i) {
    const std::int64_t c = i % C;
    const N n = (in[i] - mean[c]) * rstd[c], rows = N(static_cast<double>(R));
    din[i] = gamma[c] * rstd[c] * (d[i] - sum_d[c] / rows - n * sum_dn[c] / rows);
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_NORM_BATCH_NORM_REF_H_
