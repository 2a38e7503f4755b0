// How 64 bits of a row enter its signature (row_signature.h), on any device.
#ifndef LYCIA_KERNELS_REUSE_SIGNATURE_KEYS_H_
#define LYCIA_KERNELS_REUSE_SIGNATURE_KEYS_H_

#include <cstdint>

namespace lycia {

// Odd numbers without structure: 2^64 divided by the golden ratio, and by sqrt(2) and sqrt(3).
inline constexpr std::uint64_t kFirstKey = 0x9E3779B97F4A7C15u, kKeyStep = 0xB504F333F9DE6485u, kMixFactor = 0x93CD3A2C8198E269u;

constexpr std::uint64_t MixBits(std::uint64_t x) {
  x ^= x >> 32;
  x *= kMixFactor;
  x ^= x >> 29;
  x *= kFirstKey;
  return x ^ (x >> 32);
}
constexpr std::uint64_t KeyedProduct(std::uint64_t word, std::uint64_t key) {
  const std::uint64_t x = word + key;
  return (x & 0xffffffffu) * (x >> 32);
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_SIGNATURE_KEYS_H_
