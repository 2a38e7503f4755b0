// The specification of rms_norm.h. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_NORM_RMS_NORM_REF_H_
#define LYCIA_KERNELS_NORM_RMS_NORM_REF_H_

#include <cmath>
#include <cstdint>

namespace lycia::reference {

// in [R, C], gamma [C] -> out [R, C], rstd [R]. Zhang & Sennrich 2019, eq. 4, with eps under the root.
template <typename N>
void RmsNormForward(std::int64_t R, std::int64_t C, const N* in, const N* gamma, double eps, N* out, N* rstd) {
  using std::sqrt;
  for (std::int64_t r = 0; r < R; ++r) {
    N squares = 0;
    for (std::int64_t c = 0; c < C; ++c) squares += in[r * C + c] * in[r * C + c];
    rstd[r] = N(1) / sqrt(squares / N(static_cast<double>(C)) + N(eps));
    for (std::int64_t c = 0; c < C; ++c) out[r * C + c] = in[r * C + c] * rstd[r] * gamma[c];
  }
}

// With n = in rstd and dn = dout gamma:  din = rstd (dn - n mean(dn n)). From d rstd / d x = -rstd² n / C.
template <typename N>
void RmsNormBackwardInput(std::int64_t R, std::int64_t C, const N* dout, const N* in, const N* gamma, const N* rstd, N* din) {
  for (std::int64_t r = 0; r < R; ++r) {
    N mean_dn_n = 0;
    for (std::int64_t c = 0; c < C; ++c) mean_dn_n += dout[r * C + c] * gamma[c] * in[r * C + c] * rstd[r] / N(static_cast<double>(C));
    for (std::int64_t c = 0; c < C; ++c) din[r * C + c] = rstd[r] * (dout[r * C + c] * gamma[c] - in[r * C + c] * rstd[r] * mean_dn_n);
  }
}

// dgamma += sum over rows of dout n.
template <typename N>
void RmsNormBackwardWeight(std::int64_t R, std::int64_t C, const N* dout, const N* in, const N* rstd, N* dgamma) {
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t c = 0; c < C; ++c) dgamma[c] += dout[r * C + c] * in[r * C + c] * rstd[r];
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_NORM_RMS_NORM_REF_H_
