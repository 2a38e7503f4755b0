// The specification of gelu.h. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_ACTIVATION_GELU_REF_H_
#define LYCIA_KERNELS_ACTIVATION_GELU_REF_H_

#include <cmath>
#include <cstdint>

namespace lycia::reference {

// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))). Hendrycks & Gimpel 2016, sec. 2.
template <typename N>
N Gelu(const N& x) {
  using std::tanh;
  return N(0.5) * x * (N(1) + tanh(N(std::sqrt(2 / M_PI)) * (x + N(0.044715) * x * x * x)));
}

// Product rule; tanh' = 1 - tanh².
template <typename N>
N GeluSlope(const N& x) {
  using std::tanh;
  const N t = tanh(N(std::sqrt(2 / M_PI)) * (x + N(0.044715) * x * x * x));
  return N(0.5) * (N(1) + t) + N(0.5) * x * (N(1) - t * t) * N(std::sqrt(2 / M_PI)) * (N(1) + N(3 * 0.044715) * x * x);
}

template <typename N>
void GeluForward(std::int64_t n, const N* in, N* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = Gelu(in[i]);
}

template <typename N>
void GeluBackward(std::int64_t n, const N* in, const N* dout, N* din) {
  for (std::int64_t i = 0; i < n; ++i) din[i] = dout[i] * GeluSlope(in[i]);
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_ACTIVATION_GELU_REF_H_
