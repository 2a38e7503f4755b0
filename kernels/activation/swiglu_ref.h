// The specification of swiglu.h. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_ACTIVATION_SWIGLU_REF_H_
#define LYCIA_KERNELS_ACTIVATION_SWIGLU_REF_H_

#include <cmath>
#include <cstdint>

namespace lycia::reference {

template <typename N>
N Logistic(const N& x) {
  using std::exp;
  return N(1) / (N(1) + exp(-x));
}

// in [R, 2 F] -> out [R, F]. Shazeer 2020, eq. 5 (the products with W and V are made before).
template <typename N>
void SwiGluForward(std::int64_t R, std::int64_t F, const N* in, N* out) {
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t f = 0; f < F; ++f) {
      const N gate = in[r * 2 * F + f], up = in[r * 2 * F + F + f];
      out[r * F + f] = gate * Logistic(gate) * up;
    }
  }
}

// With s = logistic(gate): silu' = s + gate s (1 - s).
template <typename N>
void SwiGluBackward(std::int64_t R, std::int64_t F, const N* in, const N* dout, N* din) {
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t f = 0; f < F; ++f) {
      const N gate = in[r * 2 * F + f], up = in[r * 2 * F + F + f], d = dout[r * F + f], s = Logistic(gate);
      din[r * 2 * F + f] = d * up * (s + gate * s * (N(1) - s));
      din[r * 2 * F + F + f] = d * gate * s;
    }
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_ACTIVATION_SWIGLU_REF_H_
