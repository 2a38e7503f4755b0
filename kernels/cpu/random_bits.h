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
  constexpr std::uint64_t kLow = 0xffffffffu;
  const V block = V{0, 1, 2, 3, 4, 5, 6, 7} + (first >> 2);
  V x0 = block & kLow, x1 = block >> 32, x2 = Broadcast<V>(random.step & kLow), x3 = Broadcast<V>(random.step >> 32);
  std::uint64_t k0 = random.key & kLow, k1 = random.key >> 32;
  for (int round = 0; round < 10; ++round) {  // the round of philox.h
    const V p0 = x0 * 0xD2511F53u, p1 = x2 * 0xCD9E8D57u;
    x0 = (p1 >> 32) ^ x1 ^ k0;
    x1 = p1 & kLow;
    x2 = (p0 >> 32) ^ x3 ^ k1;
    x3 = p0 & kLow;
    k0 = (k0 + 0x9E3779B9u) & kLow;
    k1 = (k1 + 0xBB67AE85u) & kLow;
  }
  const V first_half = x0 | (x1 << 32), second_half = x2 | (x3 << 32);
  for (int i = 0; i < kLanes<V>; ++i) {
    const std::uint64_t words[2] = {first_half[i], second_half[i]};
    std::memcpy(bits + 4 * i, words, sizeof words);
  }
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
