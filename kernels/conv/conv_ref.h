// The specification of conv.h: seven loops. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_CONV_CONV_REF_H_
#define LYCIA_KERNELS_CONV_CONV_REF_H_

#include <cstdint>

#include "kernels/conv/conv_shape.h"

namespace lycia::reference {

// f(out index, in index, weight index) for every product of the convolution: out[.] += in[.] * weight[.].
template <typename F>
void ForEachConvProduct(const ConvShape& s, const F& f) {
  for (std::int64_t n = 0; n < s.N; ++n) {
    for (std::int64_t p = 0; p < s.P(); ++p) {
      for (std::int64_t q = 0; q < s.Q(); ++q) {
        for (std::int64_t k = 0; k < s.K; ++k) {
          for (std::int64_t r = 0; r < s.R(); ++r) {
            for (std::int64_t t = 0; t < s.S(); ++t) {
              const std::int64_t h = s.height.InputOf(p, r), w = s.width.InputOf(q, t);
              if (!s.height.Inside(h) || !s.width.Inside(w)) continue;
              for (std::int64_t c = 0; c < s.group_C(); ++c) {
                f(((n * s.P() + p) * s.Q() + q) * s.K + k, ((n * s.H() + h) * s.W() + w) * s.C + k / s.group_K() * s.group_C() + c,
                  ((k * s.R() + r) * s.S() + t) * s.group_C() + c);
              }
            }
          }
        }
      }
    }
  }
}

// out [N, P, Q, K] += in * weight.
template <typename N>
void ConvForward(const ConvShape& shape, const N* in, const N* weight, N* out) {
  ForEachConvProduct(shape, [&](std::int64_t o, std::int64_t i, std::int64_t w) { out[o] += in[i] * weight[w]; });
}
// din [N, H, W, C] +=.
template <typename N>
void ConvBackwardInput(const ConvShape& shape, const N* dout, const N* weight, N* din) {
  ForEachConvProduct(shape, [&](std::int64_t o, std::int64_t i, std::int64_t w) { din[i] += dout[o] * weight[w]; });
}
// dweight [K, R, S, C / groups] +=.
template <typename N>
void ConvBackwardWeight(const ConvShape& shape, const N* in, const N* dout, N* dweight) {
  ForEachConvProduct(shape, [&](std::int64_t o, std::int64_t i, std::int64_t w) { dweight[w] += dout[o] * in[i]; });
}

// What follows s, an element of in * weight with filter k: scale, bias (null: none), *residual (null: none), maximum with 0.
template <typename N>
N ConvEpilogue(N s, const N* scale, const N* bias, const N* residual, bool relu) {
  if (scale != nullptr) s *= *scale;
  if (bias != nullptr) s += *bias;
  if (residual != nullptr) s += *residual;
  return relu && s < N(0) ? N(0) : s;
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_CONV_CONV_REF_H_
