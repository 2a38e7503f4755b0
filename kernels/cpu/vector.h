// Vectors as wide as the registers of an instruction set, with element-wise + - * / and comparisons (GCC's vector extension). Reductions
// are written with them, because the compiler may not reorder a scalar sum.
#ifndef LYCIA_KERNELS_CPU_VECTOR_H_
#define LYCIA_KERNELS_CPU_VECTOR_H_

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/cpu/isa.h"

namespace lycia::cpu {

inline constexpr int kCacheLine = 64;  // bytes; also the widest vector

namespace internal {
template <typename T, Isa isa>
struct VectorType {
  static constexpr int kBytes = isa == Isa::kAvx512 ? 64 : isa == Isa::kAvx2 ? 32 : 16;
  typedef T type __attribute__((vector_size(kBytes)));
};
}  // namespace internal

// Never pass one by value to a function that is not LYCIA_INLINE.
template <typename T, Isa isa>
using Vector = typename internal::VectorType<T, isa>::type;
template <typename V>
using Element = std::remove_cvref_t<decltype(V{}[0])>;
// Integers as wide as the elements; what a comparison gives: all bits set where true.
template <typename V>
using MaskOf = decltype(V{} < V{});
template <typename V>
inline constexpr int kLanes = static_cast<int>(sizeof(V) / sizeof(Element<V>));

template <typename V>
LYCIA_INLINE inline V Load(const Element<V>* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <typename V>
LYCIA_INLINE inline void Store(Element<V>* to, const V& v) {
  std::memcpy(to, &v, sizeof v);
}
template <typename V>
LYCIA_INLINE inline V Broadcast(Element<V> value) {
  return value - V{};
}
// The first `count` lanes from memory, `fill` in the others.
template <typename V>
LYCIA_INLINE inline V LoadPart(const Element<V>* from, std::int64_t count, Element<V> fill = 0) {
  V v = Broadcast<V>(fill);
  for (int i = 0; i < kLanes<V>; ++i) {
    if (i < count) v[i] = from[i];
  }
  return v;
}
template <typename V>
LYCIA_INLINE inline void StorePart(Element<V>* to, const V& v, std::int64_t count) {
  for (int i = 0; i < kLanes<V>; ++i) {
    if (i < count) to[i] = v[i];
  }
}

// Lanes [first, first + half of them).
template <int first, typename V, int... lane>
LYCIA_INLINE inline auto HalfFrom(const V& v, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(v, v, (first + lane)...);
}
// Fixed order: halves are folded onto each other. In registers: through memory each fold would wait for the store before.
template <typename V>
LYCIA_INLINE inline Element<V> SumOf(const V& v) {
  constexpr int kHalf = kLanes<V> / 2;
  if constexpr (kLanes<V> == 2) {
    return v[0] + v[1];
  } else if constexpr (sizeof(V) == 16) {
    static_assert(kLanes<V> == 4);
    return (v[0] + v[2]) + (v[1] + v[3]);
  } else {
    constexpr std::make_integer_sequence<int, kHalf> kLanesOfHalf;
    return SumOf(HalfFrom<0>(v, kLanesOfHalf) + HalfFrom<kHalf>(v, kLanesOfHalf));
  }
}
template <typename V>
LYCIA_INLINE inline Element<V> LargestOf(const V& v) {
  Element<V> largest = v[0];
  for (int i = 1; i < kLanes<V>; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}
template <typename V>
LYCIA_INLINE inline V Max(const V& a, const V& b) {
  return a > b ? a : b;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_H_
