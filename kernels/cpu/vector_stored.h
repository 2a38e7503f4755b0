// Vectors from and to memory of a narrower type: bf16 beside vectors of f32, f32 beside vectors of f64.
#ifndef LYCIA_KERNELS_CPU_VECTOR_STORED_H_
#define LYCIA_KERNELS_CPU_VECTOR_STORED_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/vector.h"
#include "runtime/core/bfloat16.h"

namespace lycia::cpu {

namespace internal {
template <typename V, typename N>
struct SameLanesType {
  typedef N type __attribute__((vector_size(kLanes<V> * sizeof(N))));
};
}  // namespace internal

// As many N as V has lanes.
template <typename V, typename N>
using SameLanes = typename internal::SameLanesType<V, N>::type;

// bf16 codes -> f32, exact.
template <typename V>
LYCIA_INLINE inline V FromBf16Bits(const SameLanes<V, std::uint16_t>& codes) {
  using U = SameLanes<V, std::uint32_t>;
#if defined(__GNUC__) && !defined(__clang__)
  // GCC 12 makes two conversions of half the width, an extraction and an insertion of the one instruction there is.
  if constexpr (sizeof(V) == 64) {
    typedef short Codes __attribute__((vector_size(32)));
    typedef int Wide __attribute__((vector_size(64)));
    const U one_step = (U)__builtin_ia32_pmovzxwd512_mask((Codes)codes, Wide{}, static_cast<std::uint16_t>(-1)) << 16;
    V v;
    std::memcpy(&v, &one_step, sizeof v);
    return v;
  }
#endif
  const U wide = __builtin_convertvector(codes, U) << 16;
  V v;
  std::memcpy(&v, &wide, sizeof v);
  return v;
}

// f32 -> bf16 codes in the upper halves of words, the same bits as BFloat16(float); the lower halves hold anything. The machine's own
// conversion (vcvtneps2bf16) would make subnormals zero.
template <typename V>
LYCIA_INLINE inline SameLanes<V, std::uint32_t> ToBf16Words(const V& v) {
  using U = SameLanes<V, std::uint32_t>;
  U bits;
  std::memcpy(&bits, &v, sizeof bits);
  return v == v ? bits + 0x7fffu + ((bits >> 16) & 1u) : bits | 0x400000u;
}
template <typename V>
LYCIA_INLINE inline SameLanes<V, std::uint16_t> ToBf16Bits(const V& v) {
  return __builtin_convertvector(ToBf16Words(v) >> 16, SameLanes<V, std::uint16_t>);
}

template <typename V, typename S>
LYCIA_INLINE inline V LoadAs(const S* from) {
  if constexpr (std::is_same_v<S, Element<V>>) {
    return Load<V>(from);
  } else if constexpr (std::is_same_v<S, BFloat16>) {
    static_assert(std::is_same_v<Element<V>, float>);
    SameLanes<V, std::uint16_t> codes;
    std::memcpy(&codes, from, sizeof codes);
    return FromBf16Bits<V>(codes);
  } else {
    SameLanes<V, S> narrow;
    std::memcpy(&narrow, from, sizeof narrow);
    return __builtin_convertvector(narrow, V);
  }
}
template <typename V, typename S>
LYCIA_INLINE inline void StoreAs(S* to, const V& v) {
  if constexpr (std::is_same_v<S, Element<V>>) {
    Store<V>(to, v);
  } else if constexpr (std::is_same_v<S, BFloat16>) {
    static_assert(std::is_same_v<Element<V>, float>);
    const SameLanes<V, std::uint16_t> codes = ToBf16Bits(v);
    std::memcpy(to, &codes, sizeof codes);
  } else {
    const SameLanes<V, S> narrow = __builtin_convertvector(v, SameLanes<V, S>);
    std::memcpy(to, &narrow, sizeof narrow);
  }
}

// The first `count` lanes from memory, `fill` in the others.
template <typename V, typename S>
LYCIA_INLINE inline V LoadPartAs(const S* from, std::int64_t count, Element<V> fill = 0) {
  V v = Broadcast<V>(fill);
  for (int i = 0; i < kLanes<V>; ++i) {
    if (i < count) v[i] = static_cast<Element<V>>(from[i]);
  }
  return v;
}
template <typename V, typename S>
LYCIA_INLINE inline void StorePartAs(S* to, const V& v, std::int64_t count) {
  for (int i = 0; i < kLanes<V>; ++i) {
    if (i < count) to[i] = static_cast<S>(v[i]);
  }
}

// v as it is read back after StoreAs<S>.
template <typename S, typename V>
LYCIA_INLINE inline V RoundedTo(const V& v) {
  if constexpr (std::is_same_v<S, BFloat16>) return FromBf16Bits<V>(ToBf16Bits(v));
  return v;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_STORED_H_
