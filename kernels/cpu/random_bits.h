// Philox for many elements at once. The same bits as RandomStream::Bits.
#ifndef LYCIA_KERNELS_CPU_RANDOM_BITS_H_
#define LYCIA_KERNELS_CPU_RANDOM_BITS_H_

#include <cstdint>

#include "kernels/cpu/vector.h"
#include "runtime/core/philox.h"

namespace lycia::cpu {

// Eight blocks of four elements; with AVX-512 a lane of 64 bits each, so that the 32 x 32 bit products are one multiplication. AVX2 has no
// such multiplication of 64-bit lanes, and scalar code is twice as fast there.
inline constexpr std::int64_t kRandomGroup = 32;

// Products of the lower 32 bits of lanes.
template <typename V>
LYCIA_INLINE inline V LowerHalvesProduct(const V& a, const V& b) {
#if defined(__GNUC__) && !defined(__clang__)
  // GCC 12 makes masks and a product of 64 bits, three instructions inside on some processors.
  typedef int Halves __attribute__((vector_size(64)));
  typedef long long Products __attribute__((vector_size(64)));
  if constexpr (sizeof(V) == 64) return (V)__builtin_ia32_pmuludq512_mask((Halves)a, (Halves)b, Products{}, static_cast<std::uint8_t>(-1));
#endif
  constexpr std::uint64_t kLow = 0xffffffffu;
  return (a & kLow) * (b & kLow);
}

// Writes random.Bits(first) ... random.Bits(first + 31); first is a multiple of 4.
template <Isa isa>
LYCIA_INLINE inline void RandomGroup(const RandomStream& random, std::uint64_t first, std::uint32_t* bits) {
  if constexpr (isa != Isa::kAvx512) {
    for (std::uint64_t i = 0; i < kRandomGroup / 4; ++i) {
      const Philox4 block = Philox(random.key, (first >> 2) + i, random.step);
      std::memcpy(bits + 4 * i, &block, sizeof block);
    }
    return;
  }
  using V = Vector<std::uint64_t, Isa::kAvx512>;
  // Only the lower halves of lanes count: products do not read the upper ones, which hold anything.
  const V block = V{0, 1, 2, 3, 4, 5, 6, 7} + (first >> 2);
  V x0 = block, x1 = block >> 32, x2 = Broadcast<V>(random.step), x3 = Broadcast<V>(random.step >> 32);
  std::uint64_t k0 = random.key, k1 = random.key >> 32;
  for (int round = 0; round < 10; ++round) {  // the round of philox.h
    const V p0 = LowerHalvesProduct(x0, Broadcast<V>(0xD2511F53u)), p1 = LowerHalvesProduct(x2, Broadcast<V>(0xCD9E8D57u));
    x0 = (p1 >> 32) ^ x1 ^ k0;
    x1 = p1;
    x2 = (p0 >> 32) ^ x3 ^ k1;
    x3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  constexpr std::uint64_t kLow = 0xffffffffu;
  const V first_half = (x0 & kLow) | (x1 << 32), second_half = (x2 & kLow) | (x3 << 32);
  // By whole vectors, so that loads of whole vectors find them while they are on their way to memory.
  const V lower = __builtin_shufflevector(first_half, second_half, 0, 8, 1, 9, 2, 10, 3, 11);
  const V upper = __builtin_shufflevector(first_half, second_half, 4, 12, 5, 13, 6, 14, 7, 15);
  std::memcpy(bits, &lower, sizeof lower);
  std::memcpy(bits + kRandomGroup / 2, &upper, sizeof upper);
}

// Bits of up to kMax neighbouring elements, wherever they start.
template <std::int64_t kMax>
class RandomRun {
 public:
  template <Isa isa>
  LYCIA_INLINE void Make(const RandomStream& random, std::uint64_t first, std::int64_t count) {
    offset_ = static_cast<std::int64_t>(first & 3);
    for (std::int64_t i = 0; i < count + offset_; i += kRandomGroup) {
      RandomGroup<isa>(random, first - (first & 3) + static_cast<std::uint64_t>(i), bits_ + i);
    }
  }
  const std::uint32_t* bits() const { return bits_ + offset_; }  // [count]

 private:
  std::int64_t offset_ = 0;
  std::uint32_t bits_[(kMax + 3 + kRandomGroup - 1) / kRandomGroup * kRandomGroup];
};

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_RANDOM_BITS_H_
