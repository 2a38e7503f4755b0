// The loop over a row, vector by vector, the last one partly filled.
#ifndef LYCIA_KERNELS_CPU_VECTOR_LOOP_H_
#define LYCIA_KERNELS_CPU_VECTOR_LOOP_H_

#include <cstdint>

#include "kernels/cpu/vector.h"
#include "kernels/cpu/vector_stored.h"

namespace lycia::cpu {

// The lanes of a row that one step of the loop handles. Get and Put do not touch memory beyond them, and convert from and to the row's
// type.
template <typename V, bool kWhole>
struct Lanes {
  std::int64_t first;  // element
  std::int64_t count;  // valid lanes; kLanes<V> when kWhole

  template <typename S>
  LYCIA_INLINE V Get(const S* row, Element<V> fill = 0) const {
    if constexpr (kWhole) return LoadAs<V>(row + first);
    return LoadPartAs<V>(row + first, count, fill);
  }
  template <typename S>
  LYCIA_INLINE void Put(S* row, const V& v) const {
    if constexpr (kWhole) {
      StoreAs<V>(row + first, v);
    } else {
      StorePartAs<V>(row + first, v, count);
    }
  }
  // v in the valid lanes, 0 in the others.
  LYCIA_INLINE V Valid(const V& v) const {
    if constexpr (kWhole) return v;
    V kept{};
    for (int i = 0; i < kLanes<V>; ++i) {
      if (i < count) kept[i] = v[i];
    }
    return kept;
  }
};

// body(Lanes) for elements 0 .. count - 1. Element-wise results do not depend on where a row is cut: both instances of the body are the
// same arithmetic.
template <typename V, typename Body>
LYCIA_INLINE inline void ForEachVector(std::int64_t count, const Body& body) {
  std::int64_t i = 0;
  for (; i + kLanes<V> <= count; i += kLanes<V>) body(Lanes<V, true>{i, kLanes<V>});
  if (i < count) body(Lanes<V, false>{i, count - i});
}

// Sum over elements 0 .. count - 1 of term(Lanes), a vector whose invalid lanes are ignored; 4 * kLanes partial sums, fixed order.
template <typename V, typename Term>
LYCIA_INLINE inline Element<V> SumVectors(std::int64_t count, const Term& term) {
  constexpr int L = kLanes<V>;
  V s0{}, s1{}, s2{}, s3{};
  std::int64_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
    s0 += term(Lanes<V, true>{i, L});
    s1 += term(Lanes<V, true>{i + L, L});
    s2 += term(Lanes<V, true>{i + 2 * L, L});
    s3 += term(Lanes<V, true>{i + 3 * L, L});
  }
  for (; i + L <= count; i += L) s0 += term(Lanes<V, true>{i, L});
  if (i < count) {
    const Lanes<V, false> rest{i, count - i};
    s1 += rest.Valid(term(rest));
  }
  return SumOf<V>((s0 + s1) + (s2 + s3));
}

// Two such sums in one pass; term(Lanes) gives a Pair.
template <typename V>
struct Pair {
  V first, second;
};
template <typename V, typename Term>
LYCIA_INLINE inline Pair<Element<V>> SumVectorPairs(std::int64_t count, const Term& term) {
  constexpr int L = kLanes<V>;
  V a[4] = {}, b[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const Pair<V> t = term(Lanes<V, true>{i + part * L, L});
      a[part] += t.first;
      b[part] += t.second;
    }
  }
  for (; i + L <= count; i += L) {
    const Pair<V> t = term(Lanes<V, true>{i, L});
    a[0] += t.first;
    b[0] += t.second;
  }
  if (i < count) {
    const Lanes<V, false> rest{i, count - i};
    const Pair<V> t = term(rest);
    a[1] += rest.Valid(t.first);
    b[1] += rest.Valid(t.second);
  }
  return {SumOf<V>((a[0] + a[1]) + (a[2] + a[3])), SumOf<V>((b[0] + b[1]) + (b[2] + b[3]))};
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_LOOP_H_
