// The specification of layer_norm.h. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_NORM_LAYER_NORM_REF_H_
#define LYCIA_KERNELS_NORM_LAYER_NORM_REF_H_

#include <cmath>
#include <cstdint>

namespace lycia::reference {

// in [R, C], gamma [C], beta [C] -> out [R, C], mean [R], rstd [R]. Ba, Kiros & Hinton 2016, eq. 3, with eps under the root.
template <typename N>
void LayerNormForward(std::int64_t R, std::int64_t C, const N* in, const N* gamma, const N* beta, double eps, N* out, N* mean, N* rstd) {
  using std::sqrt;
  for (std::int64_t r = 0; r < R; ++r) {
    const N* x = in + r * C;
    N sum = 0, squares = 0;
    for (std::int64_t c = 0; c < C; ++c) sum += x[c];
    mean[r] = sum / N(static_cast<double>(C));
    for (std::int64_t c = 0; c < C; ++c) squares += (x[c] - mean[r]) * (x[c] - mean[r]);
    rstd[r] = N(1) / sqrt(squares / N(static_cast<double>(C)) + N(eps));
    for (std::int64_t c = 0; c < C; ++c) out[r * C + c] = (x[c] - mean[r]) * rstd[r] * gamma[c] + beta[c];
  }
}

// With n = (in - mean) rstd and dn = dout gamma:  din = rstd (dn - mean(dn) - n mean(dn n)). From d mean / d x = 1 / C and
// d rstd / d x = -rstd² n / C.
template <typename N>
void LayerNormBackwardInput(std::int64_t R, std::int64_t C, const N* dout, const N* in, const N* gamma, const N* mean, const N* rstd,
                            N* din) {
  for (std::int64_t r = 0; r < R; ++r) {
    N mean_dn = 0, mean_dn_n = 0;
    for (std::int64_t c = 0; c < C; ++c) {
      const N n = (in[r * C + c] - mean[r]) * rstd[r], dn = dout[r * C + c] * gamma[c];
      mean_dn += dn / N(static_cast<double>(C));
      mean_dn_n += dn * n / N(static_cast<double>(C));
    }
    for (std::int64_t c = 0; c < C; ++c) {
      const N n = (in[r * C + c] - mean[r]) * rstd[r], dn = dout[r * C + c] * gamma[c];
      din[r * C + c] = rstd[r] * (dn - mean_dn - n * mean_dn_n);
    }
  }
}

// dgamma += sum over rows of dout n;  dbeta += sum over rows of dout.
template <typename N>
void LayerNormBackwardWeight(std::int64_t R, std::int64_t C, const N* dout, const N* in, const N* mean, const N* rstd, N* dgamma,
                             N* dbeta) {
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t c = 0; c < C; ++c) {
      dgamma[c] += dout[r * C + c] * (in[r * C + c] - mean[r]) * rstd[r];
      dbeta[c] += dout[r * C + c];
    }
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_NORM_LAYER_NORM_REF_H_
