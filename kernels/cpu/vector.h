// Vectors of 64 bytes with element-wise + - * / and comparisons (GCC's vector extension): one AVX-512 register, two of AVX2, four of SSE2.
// Reductions are written with them, because the compiler may not reorder a scalar sum. Never pass one by value to a function that is not
// LYCIA_INLINE.
#ifndef LYCIA_KERNELS_CPU_VECTOR_H_
#define LYCIA_KERNELS_CPU_VECTOR_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/isa.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // a note on passing vectors by value; all such functions are inlined

namespace lycia::cpu {

inline constexpr int kVectorBytes = 64;

template <typename T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef double DoubleVector __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t Int32Vector __attribute__((vector_size(kVectorBytes)));
typedef std::int64_t Int64Vector __attribute__((vector_size(kVectorBytes)));

template <typename T>
struct VectorOf;
template <> struct VectorOf<float> { using type = FloatVector; using Mask = Int32Vector; using Int = std::int32_t; };
template <> struct VectorOf<double> { using type = DoubleVector; using Mask = Int64Vector; using Int = std::int64_t; };
template <typename T>
using Vector = typename VectorOf<T>::type;
template <typename T>
using MaskVector = typename VectorOf<T>::Mask;

template <typename T>
LYCIA_INLINE inline Vector<T> Load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <typename T>
LYCIA_INLINE inline void Store(T* to, const Vector<T>& v) {
  std::memcpy(to, &v, sizeof v);
}
template <typename T>
LYCIA_INLINE inline Vector<T> Broadcast(T value) {
  return value - Vector<T>{};
}
// The first `count` lanes from memory, `fill` in the others.
template <typename T>
LYCIA_INLINE inline Vector<T> LoadPart(const T* from, std::int64_t count, T fill = T(0)) {
  Vector<T> v = Broadcast(fill);
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < count) v[i] = from[i];
  }
  return v;
}
template <typename T>
LYCIA_INLINE inline void StorePart(T* to, const Vector<T>& v, std::int64_t count) {
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < count) to[i] = v[i];
  }
}

// Fixed order: halves are folded onto each other. The same tree on every instruction set.
template <typename T>
LYCIA_INLINE inline T Sum(const Vector<T>& v) {
  T lanes[kLanes<T>];
  Store(lanes, v);
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}
template <typename T>
LYCIA_INLINE inline T Max(const Vector<T>& v) {
  T largest = v[0];
  for (int i = 1; i < kLanes<T>; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}
template <typename V>
LYCIA_INLINE inline V Max(const V& a, const V& b) {
  return a > b ? a : b;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_H_
