// The loop over a row, vector by vector, the last one partly filled.
#ifndef LYCIA_KERNELS_CPU_VECTOR_LOOP_H_
#define LYCIA_KERNELS_CPU_VECTOR_LOOP_H_

#include <cstdint>

#include "kernels/cpu/vector.h"

namespace lycia::cpu {

// Which lanes of a row a step of the loop handles; Get and Put do not touch memory beyond it.
template <typename T, bool kWhole>
struct Lanes {
  std::int64_t first;  // element
  std::int64_t count;  // valid lanes; kLanes<T> when kWhole

  LYCIA_INLINE Vector<T> Get(const T* row, T fill = T(0)) const {
    if constexpr (kWhole) return Load(row + first);
    return LoadPart(row + first, count, fill);
  }
  LYCIA_INLINE void Put(T* row, const Vector<T>& v) const {
    if constexpr (kWhole) {
      Store<T>(row + first, v);
    } else {
      StorePart<T>(row + first, v, count);
    }
  }
  // v in the valid lanes, 0 in the others.
  LYCIA_INLINE Vector<T> Valid(const Vector<T>& v) const {
    if constexpr (kWhole) return v;
    Vector<T> kept{};
    for (int i = 0; i < kLanes<T>; ++i) {
      if (i < count) kept[i] = v[i];
    }
    return kept;
  }
};

// body(Lanes) for elements 0 .. count - 1. Element-wise results do not depend on where a row is cut: both instances of the body are the
// same arithmetic.
template <typename T, typename Body>
LYCIA_INLINE inline void ForEachVector(std::int64_t count, const Body& body) {
  std::int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) body(Lanes<T, true>{i, kLanes<T>});
  if (i < count) body(Lanes<T, false>{i, count - i});
}

// Sum over elements 0 .. count - 1 of term(Lanes), a vector whose invalid lanes are ignored; 4 * kLanes partial sums, fixed order.
template <typename T, typename Term>
LYCIA_INLINE inline T SumVectors(std::int64_t count, const Term& term) {
  constexpr int L = kLanes<T>;
  Vector<T> s0{}, s1{}, s2{}, s3{};
  std::int64_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
    s0 += term(Lanes<T, true>{i, L});
    s1 += term(Lanes<T, true>{i + L, L});
    s2 += term(Lanes<T, true>{i + 2 * L, L});
    s3 += term(Lanes<T, true>{i + 3 * L, L});
  }
  for (; i + L <= count; i += L) s0 += term(Lanes<T, true>{i, L});
  if (i < count) {
    const Lanes<T, false> rest{i, count - i};
    s1 += rest.Valid(term(rest));
  }
  return Sum<T>((s0 + s1) + (s2 + s3));
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_LOOP_H_
