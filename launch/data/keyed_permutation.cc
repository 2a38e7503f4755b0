#include "launch/data/keyed_permutation.h"

#include "runtime/core/check.h"

namespace lycia {
namespace {

// Four rounds are indistinguishable from random for large halves (Luby & Rackoff 1988); halves here may have one bit, so twice as many.
constexpr std::uint64_t kRounds = 8;

}  // namespace

KeyedPermutation::KeyedPermutation(const RandomStream& key, std::int64_t size) : key_(key), size_(size) {
  LYCIA_CHECK(size >= 1 && size <= std::int64_t{1} << 58) << size << " ";
  while (std::int64_t{1} << 2 * half_bits_ < size) ++half_bits_;
}

std::int64_t KeyedPermutation::operator()(std::int64_t place) const {
  LYCIA_CHECK(place >= 0 && place < size_) << place << " of " << size_ << " ";
  std::uint64_t value = static_cast<std::uint64_t>(place);
  do {
    value = Encrypt(value);
  } while (value >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(value);
}

std::uint64_t KeyedPermutation::Encrypt(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_, right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t next = left ^ (key_.Bits(right * kRounds + round) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

}  // namespace lycia
