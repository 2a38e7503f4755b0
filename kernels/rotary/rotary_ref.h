// The specification of rotary.h. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_ROTARY_ROTARY_REF_H_
#define LYCIA_KERNELS_ROTARY_ROTARY_REF_H_

#include <cmath>
#include <cstdint>

namespace lycia::reference {

// One head of D features at a position, in place: the pair (x[i], x[i + D/2]) turned by position base^(-2 i / D), or back. Su et al. 2021,
// eq. 15 and 34.
template <typename N>
void RotateHead(std::int64_t D, double base, std::int64_t position, bool inverse, N* x) {
  for (std::int64_t i = 0; i < D / 2; ++i) {
    const double angle = static_cast<double>(position) * std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(D));
    const N c = N(std::cos(angle)), s = N(inverse ? -std::sin(angle) : std::sin(angle));
    const N a = x[i], b = x[i + D / 2];
    x[i] = a * c - b * s;
    x[i + D / 2] = b * c + a * s;
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_ROTARY_ROTARY_REF_H_
