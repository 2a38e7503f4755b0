// Random numbers as a pure function: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
//
// A number is addressed by (seed, stream name, step, global index), never by rank, pipe, micro-batch or order of calls, so every
// layout initialises and drops out identically.
#ifndef LYCIA_RUNTIME_CORE_PHILOX_H_
#define LYCIA_RUNTIME_CORE_PHILOX_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace lycia {

// Ten rounds on a 128-bit counter under a 64-bit key. Usable in CUDA device code.
#if defined(__CUDACC__)
#define LYCIA_HOST_DEVICE __host__ __device__
#else
#define LYCIA_HOST_DEVICE
#endif

struct Philox4 {
  std::uint32_t x0, x1, x2, x3;
};

LYCIA_HOST_DEVICE inline Philox4 Philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
  Philox4 c{static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
            static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)};
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c.x0, p1 = std::uint64_t{0xCD9E8D57u} * c.x2;
    c = Philox4{static_cast<std::uint32_t>(p1 >> 32) ^ c.x1 ^ k0, static_cast<std::uint32_t>(p1),
                static_cast<std::uint32_t>(p0 >> 32) ^ c.x3 ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9u;  // golden ratio
    k1 += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return c;
}

// Names one independent stream of random numbers: the key of Philox is (seed, name), the high counter is the step.
struct RandomStream {
  std::uint64_t key = 0;
  std::uint64_t step = 0;

  RandomStream() = default;
  RandomStream(std::uint64_t seed, std::string_view name, std::uint64_t at_step) : key(KeyOf(seed, name)), step(at_step) {}

  // 32 random bits for global element `index`; four consecutive indices share one Philox block.
  LYCIA_HOST_DEVICE std::uint32_t Bits(std::uint64_t index) const {
    const Philox4 block = Philox(key, index >> 2, step);
    switch (index & 3) {
      case 0: return block.x0;
      case 1: return block.x1;
      case 2: return block.x2;
      default: return block.x3;
    }
  }
  // Uniform in (0, 1): (bits + 1/2) / 2^32, exact in f64.
  LYCIA_HOST_DEVICE double Uniform(std::uint64_t index) const { return (static_cast<double>(Bits(index)) + 0.5) * 0x1p-32; }
  // Standard normal by Box-Muller from elements 2 * index and 2 * index + 1 of the stream.
  double Normal(std::uint64_t index) const;

  // 64-bit FNV-1a of the name mixed with the seed by splitmix64, so that near names and seeds give unrelated keys.
  static std::uint64_t KeyOf(std::uint64_t seed, std::string_view name);
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_CORE_PHILOX_H_
