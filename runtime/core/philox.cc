#include "runtime/core/philox.h"

#include <cmath>
#include <numbers>

namespace lycia {
namespace {

std::uint64_t SplitMix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

std::uint64_t RandomStream::KeyOf(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return SplitMix64(hash ^ SplitMix64(seed));
}

double RandomStream::Normal(std::uint64_t index) const {
  const double radius = std::sqrt(-2.0 * std::log(Uniform(2 * index)));
  return radius * std::cos(2.0 * std::numbers::pi * Uniform(2 * index + 1));
}

}  // namespace lycia
