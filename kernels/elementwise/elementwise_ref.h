// The specification of dropout.h and of elementwise.h's random filling.
#ifndef LYCIA_KERNELS_ELEMENTWISE_ELEMENTWISE_REF_H_
#define LYCIA_KERNELS_ELEMENTWISE_ELEMENTWISE_REF_H_

#include <cstdint>

#include "runtime/core/philox.h"

namespace lycia::reference {

// 1 / (1 - rate) where the element is kept, else 0.
inline double DropoutFactor(const RandomStream& random, double rate, std::int64_t index) {
  return random.Uniform(static_cast<std::uint64_t>(index)) >= rate ? 1 / (1 - rate) : 0;
}

// out[r][c] = residual[r][c] + in[r][c] * factor(first_index + r row_stride + c); residual may be null.
template <typename N>
void Dropout(std::int64_t R, std::int64_t C, const N* in, const N* residual, const RandomStream& random, double rate,
             std::int64_t first_index, std::int64_t row_stride, N* out) {
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t c = 0; c < C; ++c) {
      const N kept = in[r * C + c] * N(DropoutFactor(random, rate, first_index + r * row_stride + c));
      out[r * C + c] = residual == nullptr ? kept : residual[r * C + c] + kept;
    }
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_ELEMENTWISE_ELEMENTWISE_REF_H_
