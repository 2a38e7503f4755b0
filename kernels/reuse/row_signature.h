// 64-bit signatures of rows: equal rows have equal signatures, others nearly never. Every match is verified, so that a signature decides
// about time alone.
//
// With words w of 64 bits and keys k: the sum of low(w + k) * high(w + k), low and high the halves of 32 bits (the NH family of Black,
// Halevi, Krawczyk, Krovetz & Rogaway 1999), one multiplication for eight bytes; then a mix of the bits. Keys are an arithmetic
// progression, so that none are read from memory.
#ifndef LYCIA_KERNELS_REUSE_ROW_SIGNATURE_H_
#define LYCIA_KERNELS_REUSE_ROW_SIGNATURE_H_

#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/vector_stored.h"
#include "kernels/reuse/signature_keys.h"
#include "runtime/core/dtype.h"

namespace lycia::cpu {

// low(x) * high(x) of each lane.
template <typename V>
LYCIA_INLINE inline V HalvesProduct(const V& x) {
  const V high = x >> 32;
#if defined(__GNUC__) && !defined(__clang__)
  // GCC 12 multiplies whole lanes otherwise, which takes three instructions.
  if constexpr (sizeof(V) == 64) {
    typedef int Halves __attribute__((vector_size(64)));
    typedef long long Product __attribute__((vector_size(64)));
    return (V)__builtin_ia32_pmuludq512_mask((Halves)x, (Halves)high, Product{}, static_cast<std::uint8_t>(-1));
  } else if constexpr (sizeof(V) == 32) {
    typedef int Halves __attribute__((vector_size(32)));
    return (V)__builtin_ia32_pmuludq256((Halves)x, (Halves)high);
  } else {
    typedef int Halves __attribute__((vector_size(16)));
    return (V)__builtin_ia32_pmuludq128((Halves)x, (Halves)high);
  }
#else
  return (x & 0xffffffffu) * high;
#endif
}

// The first keys: of four vectors of the widest instruction set.
inline constexpr std::array<std::uint64_t, 32> kKeys = [] {
  std::array<std::uint64_t, 32> keys{};
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = kFirstKey + kKeyStep * i;
  return keys;
}();

// Adds up vectors of words, four chains in turn.
template <Isa isa>
class VectorSignature {
 public:
  using V = Vector<std::uint64_t, isa>;
  static constexpr int kChains = 4;

  LYCIA_INLINE VectorSignature() {
    for (int c = 0; c < kChains; ++c) keys_[c] = Load<V>(kKeys.data() + c * kLanes<V>);
  }
  // words(c): the vector of chain c of the next kChains.
  template <typename Words>
  LYCIA_INLINE void Add(const Words& words) {
    constexpr std::uint64_t kAdvance = kKeyStep * kChains * kLanes<V>;
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
      sums_[c] += HalvesProduct<V>(words(c) + keys_[c]);
      keys_[c] += kAdvance;
    }
  }
  LYCIA_INLINE std::uint64_t Done() const { return MixBits(SumOf<V>((sums_[0] + sums_[1]) + (sums_[2] + sums_[3]))); }

 private:
  V keys_[kChains], sums_[kChains] = {};
};

// Of the bits of a row.
template <Isa isa>
LYCIA_INLINE inline std::uint64_t SignatureOfBits(const char* row, std::int64_t bytes) {
  using V = Vector<std::uint64_t, isa>;
  constexpr std::int64_t kShort = 64, kStep = VectorSignature<isa>::kChains * sizeof(V);
  if (bytes <= kShort) {
    std::uint64_t sum = 0, key = kFirstKey, word = 0;
    std::int64_t at = 0;
    for (; at + 8 <= bytes; at += 8, key += kKeyStep) {
      std::memcpy(&word, row + at, 8);
      sum += KeyedProduct(word, key);
    }
    if (at < bytes) {
      word = 0;
      std::memcpy(&word, row + at, static_cast<std::size_t>(bytes - at));
      sum += KeyedProduct(word, key);
    }
    return MixBits(sum);
  }
  VectorSignature<isa> signature;
  const auto words = [](const char* from) LYCIA_INLINE {
    return [=](int c) LYCIA_INLINE {
      V v;
      std::memcpy(&v, from + c * static_cast<int>(sizeof v), sizeof v);
      return v;
    };
  };
  std::int64_t at = 0;
  for (; at + kStep <= bytes; at += kStep) signature.Add(words(row + at));
  if (at < bytes) {
    alignas(64) char rest[kStep] = {};
    std::memcpy(rest, row + at, static_cast<std::size_t>(bytes - at));
    signature.Add(words(rest));
  }
  return signature.Done();
}

// Whether two rows have the same bits. Rows that are compared nearly always do: no early end.
template <Isa isa>
LYCIA_INLINE inline bool BitsEqual(const char* a, const char* b, std::int64_t bytes) {
  using V = Vector<std::uint64_t, isa>;
  constexpr std::int64_t kBytes = sizeof(V);
  const auto load = [](const char* from) LYCIA_INLINE {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
  };
  if (bytes < kBytes) return std::memcmp(a, b, static_cast<std::size_t>(bytes)) == 0;
  V differs[4] = {};
  std::int64_t at = 0;
  for (; at + 4 * kBytes <= bytes; at += 4 * kBytes) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) differs[c] |= load(a + at + c * kBytes) ^ load(b + at + c * kBytes);
  }
  for (; at + kBytes <= bytes; at += kBytes) differs[0] |= load(a + at) ^ load(b + at);
  differs[1] |= load(a + bytes - kBytes) ^ load(b + bytes - kBytes);
  const V any = (differs[0] | differs[1]) | (differs[2] | differs[3]);
  std::uint64_t bits = 0;
  for (int l = 0; l < kLanes<V>; ++l) bits |= any[l];
  return bits == 0;
}

// The nearest integer, ties to even. The sign of a zero is not said.
template <typename V>
LYCIA_INLINE inline V NearestInteger(const V& x) {
  using T = Element<V>;
#if defined(__GNUC__) && !defined(__clang__)
  constexpr int kToNearest = 8, kCurrent = 4;  // without a flag for what is not exact; by the current mode of exceptions
  typedef float Floats __attribute__((vector_size(64)));
  typedef double Doubles __attribute__((vector_size(64)));
  typedef float HalfFloats __attribute__((vector_size(32)));
  typedef double HalfDoubles __attribute__((vector_size(32)));
  if constexpr (sizeof(V) == 64 && sizeof(T) == 4) {
    return (V)__builtin_ia32_rndscaleps_mask((Floats)x, kToNearest, Floats{}, static_cast<std::uint16_t>(-1), kCurrent);
  } else if constexpr (sizeof(V) == 64) {
    return (V)__builtin_ia32_rndscalepd_mask((Doubles)x, kToNearest, Doubles{}, static_cast<std::uint8_t>(-1), kCurrent);
  } else if constexpr (sizeof(V) == 32 && sizeof(T) == 4) {
    return (V)__builtin_ia32_roundps256((HalfFloats)x, kToNearest);
  } else if constexpr (sizeof(V) == 32) {
    return (V)__builtin_ia32_roundpd256((HalfDoubles)x, kToNearest);
  }
#endif
  constexpr T kWhole = sizeof(T) == 4 ? static_cast<T>(0x1p23) : static_cast<T>(0x1p52);  // from here on there are integers only
  const V size = x < 0 ? -x : x, rounded = (size + kWhole) - kWhole;
  return size < kWhole ? (x < 0 ? -rounded : rounded) : x;
}

// x / delta rounded. An infinity stays one, a NaN too, a function of its bits.
template <typename V>
LYCIA_INLINE inline V QuantizedOf(const V& x, Element<V> reciprocal) {
  return NearestInteger<V>(x * reciprocal) + static_cast<Element<V>>(0);  // one zero
}

// Of a row's quantized elements.
template <Isa isa, typename S>
LYCIA_INLINE inline std::uint64_t SignatureOfQuantized(const S* row, std::int64_t count, Arithmetic<S> reciprocal) {
  using V = Vector<Arithmetic<S>, isa>;
  using Words = Vector<std::uint64_t, isa>;
  constexpr int L = kLanes<V>;
  VectorSignature<isa> signature;
  const auto bits = [=](const V& v) LYCIA_INLINE {
    const V q = QuantizedOf<V>(v, reciprocal);
    Words words;
    std::memcpy(&words, &q, sizeof words);
    return words;
  };
  std::int64_t i = 0;
  for (; i + 4 * L <= count; i += 4 * L) {
    signature.Add([=](int c) LYCIA_INLINE { return bits(LoadAs<V>(row + i + c * L)); });
  }
  if (i < count) {
    alignas(64) Arithmetic<S> rest[4 * L] = {};
    for (std::int64_t j = i; j < count; ++j) rest[j - i] = static_cast<Arithmetic<S>>(row[j]);
    const auto* from = rest;
    signature.Add([=](int c) LYCIA_INLINE { return bits(Load<V>(from + c * L)); });
  }
  return signature.Done();
}

// Whether two rows are equal once quantized; false where a NaN is among them.
template <Isa isa, typename S>
LYCIA_INLINE inline bool QuantizedEqual(const S* a, const S* b, std::int64_t count, Arithmetic<S> reciprocal) {
  using V = Vector<Arithmetic<S>, isa>;
  constexpr int L = kLanes<V>;
  MaskOf<V> differs{};
  std::int64_t i = 0;
  for (; i + L <= count; i += L) {
    differs |= QuantizedOf<V>(LoadAs<V>(a + i), reciprocal) != QuantizedOf<V>(LoadAs<V>(b + i), reciprocal);
  }
  if (i < count) {
    differs |= QuantizedOf<V>(LoadPartAs<V>(a + i, count - i), reciprocal) != QuantizedOf<V>(LoadPartAs<V>(b + i, count - i), reciprocal);
  }
  Element<MaskOf<V>> any = 0;
  for (int l = 0; l < L; ++l) any |= differs[l];
  return any == 0;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_REUSE_ROW_SIGNATURE_H_
