// exp on vectors: f32 by a polynomial, without branches; f64 by the C library, lane by lane.
#ifndef LYCIA_KERNELS_CPU_VECTOR_MATH_H_
#define LYCIA_KERNELS_CPU_VECTOR_MATH_H_

#include <cmath>

#include "kernels/cpu/vector.h"

namespace lycia::cpu {

// f32: relative error below 2e-7 for x in [-87.3, 88.3]; 0 below, exp(88.3) above, NaN stays NaN. kAtMostZero: x is known to
// be no larger, and the same bits are had without the upper bound.
//
// x = n ln 2 + r, |r| <= ln 2 / 2: exp(r) by its Taylor series to r^7 (remainder below 6e-9), times 2^n built from n's bits. ln 2 is
// taken in two parts (Cody & Waite 1980), the first with 10 bits so that n times it is exact.
template <typename V, bool kAtMostZero>
LYCIA_INLINE inline V ExpOfFloats(const V& argument) {
  constexpr float kLowest = -87.33654f, kHighest = 88.3f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits
  const MaskOf<V> underflow = argument < kLowest;
  V bounded = underflow ? Broadcast<V>(kLowest) : argument;
  if constexpr (!kAtMostZero) bounded = bounded > kHighest ? Broadcast<V>(kHighest) : bounded;
  const V shifted = bounded * 1.44269504f + kRound;
  const V n = shifted - kRound;
  const V r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = Broadcast<V>(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  MaskOf<V> bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000 + 127) << 23;  // 0x4B400000 are kRound's bits
  V power;
  std::memcpy(&power, &bits, sizeof power);
  return underflow ? V{} : p * power;
}

template <typename V, bool kAtMostZero = false>
LYCIA_INLINE inline V Exp(const V& x) {
  if constexpr (std::is_same_v<Element<V>, float>) return ExpOfFloats<V, kAtMostZero>(x);
  V y;
  for (int i = 0; i < kLanes<V>; ++i) y[i] = static_cast<Element<V>>(std::exp(x[i]));
  return y;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_MATH_H_
