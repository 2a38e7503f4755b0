// Philox for many elements at once, as loops that the compiler turns into vectors. The same bits as RandomStream::Bits.
#ifndef LYCIA_KERNELS_CPU_RANDOM_BITS_H_
#define LYCIA_KERNELS_CPU_RANDOM_BITS_H_

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "runtime/core/philox.h"

namespace lycia::cpu {

inline constexpr std::int64_t kRandomBatch = 64;  // elements: 16 blocks of Philox, side by side

// bits[i] = random.Bits(first / 4 * 4 + i) for i < kRandomBatch.
LYCIA_INLINE inline void RandomBits(const RandomStream& random, std::uint64_t first, std::uint32_t* bits) {
  constexpr int kBlocks = static_cast<int>(kRandomBatch / 4);
  std::uint32_t x0[kBlocks], x1[kBlocks], x2[kBlocks], x3[kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    const std::uint64_t block = (first >> 2) + static_cast<std::uint64_t>(i);
    x0[i] = static_cast<std::uint32_t>(block);
    x1[i] = static_cast<std::uint32_t>(block >> 32);
    x2[i] = static_cast<std::uint32_t>(random.step);
    x3[i] = static_cast<std::uint32_t>(random.step >> 32);
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(random.key), k1 = static_cast<std::uint32_t>(random.key >> 32);
  for (int round = 0; round < 10; ++round) {  // the round of philox.h
#pragma GCC unroll 1  // unrolled first, it would not become vectors
    for (int i = 0; i < kBlocks; ++i) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * x0[i], p1 = std::uint64_t{0xCD9E8D57u} * x2[i];
      x0[i] = static_cast<std::uint32_t>(p1 >> 32) ^ x1[i] ^ k0;
      x1[i] = static_cast<std::uint32_t>(p1);
      x2[i] = static_cast<std::uint32_t>(p0 >> 32) ^ x3[i] ^ k1;
      x3[i] = static_cast<std::uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kBlocks; ++i) {
    bits[4 * i] = x0[i];
    bits[4 * i + 1] = x1[i];
    bits[4 * i + 2] = x2[i];
    bits[4 * i + 3] = x3[i];
  }
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_RANDOM_BITS_H_
