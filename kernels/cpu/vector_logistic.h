// The logistic function s(z) = 1 / (1 + exp(-z)) on vectors, and GELU in its tanh form on it: with u the argument of the tanh,
// (1 + tanh(u)) / 2 = s(2u) (kernels/activation/gelu.h).
//
// All of it is written with h = exp(-|z|), in (0, 1]: nothing overflows, no difference of near numbers is taken, and far out, where h is 0,
// results are the limits themselves. A NaN stays one.
#ifndef LYCIA_KERNELS_CPU_VECTOR_LOGISTIC_H_
#define LYCIA_KERNELS_CPU_VECTOR_LOGISTIC_H_

#include <cstring>
#include <limits>

#include "kernels/cpu/vector.h"
#include "kernels/cpu/vector_math.h"

namespace lycia::cpu {

// exp(-|z|). The sign is set as a bit: a comparison would wait for the units that multiply.
template <typename V>
LYCIA_INLINE inline V DecayOf(const V& z) {
  MaskOf<V> bits;
  std::memcpy(&bits, &z, sizeof bits);
  bits |= std::numeric_limits<Element<MaskOf<V>>>::min();
  V negative;
  std::memcpy(&negative, &bits, sizeof negative);
  return Exp<V, true>(negative);
}

// x s(z); z has x's sign.
template <typename V>
LYCIA_INLINE inline V TimesLogistic(const V& x, const V& z) {
  const V h = DecayOf<V>(z);
  return (z < 0 ? x * h : x) / (1 + h);
}

template <typename V>
struct Logistic {
  V value, slope;  // s and s (1 - s)
};
template <typename V>
LYCIA_INLINE inline Logistic<V> LogisticOf(const V& z) {
  const V h = DecayOf<V>(z), r = 1 / (1 + h);
  return {z < 0 ? h * r : r, (h * r) * r};
}

inline constexpr double kGeluTwiceScale = 1.5957691216057307;  // 2 sqrt(2/pi)
inline constexpr double kGeluCubic = 0.044715;

// 2u.
template <typename V>
LYCIA_INLINE inline V GeluArgument(const V& x) {
  using T = Element<V>;
  return static_cast<T>(kGeluTwiceScale) * (x + static_cast<T>(kGeluCubic) * x * x * x);
}
template <typename V>
LYCIA_INLINE inline V GeluOf(const V& x) {
  return TimesLogistic<V>(x, GeluArgument<V>(x));
}
// s + x s (1 - s) (2u)'. Beyond +-30 that is 1 or 0, where x² might overflow.
template <typename V>
LYCIA_INLINE inline V GeluSlopeOf(const V& any) {
  using T = Element<V>;
  const V bound = Broadcast<V>(30), x = any > 30 ? bound : any < -30 ? -bound : any;
  const Logistic<V> s = LogisticOf<V>(GeluArgument<V>(x));
  return s.value + x * (static_cast<T>(kGeluTwiceScale) * (1 + static_cast<T>(3 * kGeluCubic) * x * x)) * s.slope;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_LOGISTIC_H_
