// A permutation of 0 .. size - 1 that needs no memory: any element in constant time, from the key alone.
#ifndef LYCIA_LAUNCH_DATA_KEYED_PERMUTATION_H_
#define LYCIA_LAUNCH_DATA_KEYED_PERMUTATION_H_

#include <cstdint>

#include "runtime/core/philox.h"

namespace lycia {

// A balanced Feistel network on the smallest 4^b >= size, whose rounds are bits of a RandomStream, walked along its cycle until the value
// is below size (Black & Rogaway 2002, "Ciphers with arbitrary finite domains", sec. 3): 4^b < 4 size, so fewer than four steps on average.
class KeyedPermutation {
 public:
  // size >= 1. The key is (seed, name, number), as of a RandomStream.
  KeyedPermutation(const RandomStream& key, std::int64_t size);

  std::int64_t size() const { return size_; }
  std::int64_t operator()(std::int64_t place) const;  // place in [0, size)

 private:
  std::uint64_t Encrypt(std::uint64_t value) const;

  RandomStream key_;
  std::int64_t size_;
  int half_bits_ = 1;  // b
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_KEYED_PERMUTATION_H_
