// XXH3-128: finds any accidental change of a file at memory speed. Not a signature: it does not stop a forger.
#ifndef LYCIA_RUNTIME_IO_CHECKSUM_H_
#define LYCIA_RUNTIME_IO_CHECKSUM_H_

#include <cstdint>
#include <memory>
#include <string>

namespace lycia {

inline constexpr int kChecksumDigits = 32;

// 32 lower-case hexadecimal digits, as `xxhsum -H2` prints them.
std::string ChecksumOf(const void* data, std::int64_t bytes);

// The same, of bytes that come in parts.
class Checksum {
 public:
  Checksum();
  void Update(const void* data, std::int64_t bytes);
  std::string Hex() const;  // of everything so far

 private:
  struct Free {
    void operator()(void* state) const;
  };
  std::unique_ptr<void, Free> state_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_IO_CHECKSUM_H_
