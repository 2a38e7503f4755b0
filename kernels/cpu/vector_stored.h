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

// Vectors of f32 whose one instruction GCC does not find. Its built-ins are not those of Clang.
#if defined(__GNUC__) && !defined(__clang__)
template <typename V>
inline constexpr bool kGccAvx512 = sizeof(V) == 64 && std::is_same_v<Element<V>, float>;
template <typename V>
inline constexpr bool kGccAvx2 = sizeof(V) == 32 && std::is_same_v<Element<V>, float>;

namespace internal {
typedef float Floats512 __attribute__((vector_size(64)));
typedef int Ints512 __attribute__((vector_size(64)));
typedef short Words512 __attribute__((vector_size(64)));
typedef int Ints256 __attribute__((vector_size(32)));
typedef long long Longs256 __attribute__((vector_size(32)));
typedef short Words128 __attribute__((vector_size(16)));

// Word i into the upper half of lane i, zeros below: one vpermw, where vpmovzxwd and a shift are two of the same kind.
LYCIA_INLINE inline Ints512 UpperHalves(const Ints256& words) {
  constexpr Words512 kFrom = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15};
  return (Ints512)__builtin_ia32_permvarhi512_mask((Words512)__builtin_ia32_si512_256si(words), kFrom, Words512{}, 0xaaaaaaaau);
}
// The upper half of lane i into word i: one vpermw.
LYCIA_INLINE inline Ints256 UpperHalvesOf(const Ints512& lanes) {
  constexpr Words512 kFrom = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
  const Words512 packed = __builtin_ia32_permvarhi512_mask((Words512)lanes, kFrom, Words512{}, 0xffffffffu);
  Ints256 lower;
  std::memcpy(&lower, &packed, sizeof lower);
  return lower;
}
// `lanes`, but v made quiet where it is a NaN: one vfixupimmps, where a comparison and a selection are two.
LYCIA_INLINE inline Ints512 UnlessNan(const Ints512& lanes, const Floats512& v) {
  constexpr int kQuietNans = 0x22;  // of a quiet NaN (lowest 4 bits) and of a signalling one: v made quiet
  constexpr Ints512 kTable = {kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans,
                              kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans, kQuietNans};
  constexpr int kCurrentRounding = 4;
  return (Ints512)__builtin_ia32_fixupimmps512_mask((Floats512)lanes, v, kTable, 0, static_cast<std::uint16_t>(-1), kCurrentRounding);
}

// Words of AVX2, whose values fit 16 bits: packed in both halves, and the halves put together.
LYCIA_INLINE inline Words128 Narrowed(const Ints256& lanes) {
  const Longs256 packed = __builtin_ia32_permdi256((Longs256)__builtin_ia32_packusdw256(lanes, lanes), 0x08);
  Words128 lower;
  std::memcpy(&lower, &packed, sizeof lower);
  return lower;
}

// Bit i for i < count.
LYCIA_INLINE inline std::uint16_t FirstLanes(std::int64_t count) {
  return static_cast<std::uint16_t>((std::uint32_t{1} << (count < 16 ? count : 16)) - 1);
}
}  // namespace internal
#endif

// bf16 codes -> f32, exact.
template <typename V>
LYCIA_INLINE inline V FromBf16Bits(const SameLanes<V, std::uint16_t>& codes) {
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (kGccAvx512<V>) return (V)internal::UpperHalves((internal::Ints256)codes);
  if constexpr (kGccAvx2<V>) return (V)(__builtin_ia32_pmovzxwd256((internal::Words128)codes) << 16);
#endif
  const SameLanes<V, std::uint32_t> wide = __builtin_convertvector(codes, SameLanes<V, std::uint32_t>) << 16;
  V v;
  std::memcpy(&v, &wide, sizeof v);
  return v;
}

// f32 -> bf16 codes in the upper halves of words, the same bits as BFloat16(float); the lower halves hold anything. The machine's own
// conversion (vcvtneps2bf16) makes subnormals zero.
template <typename V>
LYCIA_INLINE inline SameLanes<V, std::uint32_t> ToBf16Words(const V& v) {
  using U = SameLanes<V, std::uint32_t>;
  U bits;
  std::memcpy(&bits, &v, sizeof bits);
  const U rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (kGccAvx512<V>) return (U)internal::UnlessNan((internal::Ints512)rounded, v);
#endif
  return v == v ? rounded : bits | 0x400000u;
}
template <typename V>
LYCIA_INLINE inline SameLanes<V, std::uint16_t> ToBf16Bits(const V& v) {
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (kGccAvx512<V>) return (SameLanes<V, std::uint16_t>)internal::UpperHalvesOf((internal::Ints512)ToBf16Words(v));
  if constexpr (kGccAvx2<V>) return (SameLanes<V, std::uint16_t>)internal::Narrowed((internal::Ints256)(ToBf16Words(v) >> 16));
#endif
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
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (kGccAvx512<V> && std::is_same_v<S, float>) {
    return __builtin_ia32_loadups512_mask(from, Broadcast<V>(fill), internal::FirstLanes(count));
  } else if constexpr (kGccAvx512<V> && std::is_same_v<S, BFloat16>) {
    typedef short Codes __attribute__((vector_size(32)));
    const std::uint16_t valid = internal::FirstLanes(count);
    const Codes codes = __builtin_ia32_loaddquhi256_mask(reinterpret_cast<const short*>(from), Codes{}, valid);
    return __builtin_ia32_blendmps_512_mask(Broadcast<V>(fill), FromBf16Bits<V>((SameLanes<V, std::uint16_t>)codes), valid);
  }
#endif
  V v = Broadcast<V>(fill);
  for (int i = 0; i < kLanes<V>; ++i) {
    if (i < count) v[i] = static_cast<Element<V>>(from[i]);
  }
  return v;
}
template <typename V, typename S>
LYCIA_INLINE inline void StorePartAs(S* to, const V& v, std::int64_t count) {
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (kGccAvx512<V> && std::is_same_v<S, float>) {
    return __builtin_ia32_storeups512_mask(to, v, internal::FirstLanes(count));
  } else if constexpr (kGccAvx512<V> && std::is_same_v<S, BFloat16>) {
    typedef short Codes __attribute__((vector_size(32)));
    return __builtin_ia32_storedquhi256_mask(reinterpret_cast<short*>(to), (Codes)ToBf16Bits(v), internal::FirstLanes(count));
  }
#endif
  for (int i = 0; i < kLanes<V>; ++i) {
    if (i < count) to[i] = static_cast<S>(v[i]);
  }
}

// v as it is read back after StoreAs<S>.
template <typename S, typename V>
LYCIA_INLINE inline V RoundedTo(const V& v) {
  if constexpr (std::is_same_v<S, BFloat16>) {
    const SameLanes<V, std::uint32_t> bits = ToBf16Words(v) & 0xffff0000u;
    V rounded;
    std::memcpy(&rounded, &bits, sizeof rounded);
    return rounded;
  }
  return v;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_VECTOR_STORED_H_
