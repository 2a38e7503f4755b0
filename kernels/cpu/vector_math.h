// exp on vectors: f32 by a polynomial, without branches; f64 by the C library, lane by lane.
#ifndef LYCIA_KERNELS_CPU_VECTOR_MATH_H_
#define LYCIA_KERNELS_CPU_VECTOR_MATH_H_

#include <cmath>

#include "kernels/cpu/vector.h"

namespace lycia::cpu {

// exp(x), relative error below 2e-7 for x in [-87.3, 88.3]; 0 below, exp(88.3) above, NaN stays NaN.
//
// x = n ln 2 + r, |r| <= ln 2 / 2: exp(r) by its Taylor series to r^7 (remainder below 6e-9), times 2^n built from n's bits. ln 2 is
// taken in two parts (Cody & Waite 1980), the first with 15 bits so that n times it is exact.
LYCIA_INLINE inline FloatVector Exp(const FloatVector& argument) {
  constexpr float kLowest = -87.33654f, kHighest = 88.3f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits
  const Int32Vector underflow = argument < kLowest;
  const FloatVector x = argument > kHighest ? Broadcast(kHighest) : argument;
  const FloatVector bounded = underflow ? Broadcast(kLowest) : x;
  const FloatVector shifted = bounded * 1.44269504f + kRound;
  const FloatVector n = shifted - kRound;
  const FloatVector r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  FloatVector p = Broadcast(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  Int32Vector bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000 + 127) << 23;  // 0x4B400000 are kRound's bits
  FloatVector power;
  std::memcpy(&power, &bits, sizeof power);
  return underflow ? FloatVector{} : p * power;
}

LYCIA_INLINE inline DoubleVector Exp(const DoubleVector& x) {
  DoubleVector y;
  for (int i = 0; i < kLanes<double>; ++i) y[i] = std::exp(x[i]);
  return y;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_MATH_H_
