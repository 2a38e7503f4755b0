#include "runtime/io/checksum.h"

#include <xxhash.h>

#include "runtime/core/check.h"

namespace lycia {
namespace {

std::string HexOf(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;  // big-endian bytes
  XXH128_canonicalFromHash(&canonical, hash);
  std::string hex;
  for (unsigned char byte : canonical.digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

}  // namespace

std::string ChecksumOf(const void* data, std::int64_t bytes) { return HexOf(XXH3_128bits(data, static_cast<std::size_t>(bytes))); }

Checksum::Checksum() : state_(XXH3_createState()) {
  LYCIA_CHECK(state_ != nullptr) << "no memory for a checksum ";
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_.get()));
}

void Checksum::Update(const void* data, std::int64_t bytes) {
  if (bytes > 0) XXH3_128bits_update(static_cast<XXH3_state_t*>(state_.get()), data, static_cast<std::size_t>(bytes));
}

std::string Checksum::Hex() const { return HexOf(XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_.get()))); }

void Checksum::Free::operator()(void* state) const { XXH3_freeState(static_cast<XXH3_state_t*>(state)); }

}  // namespace lycia
