// SharedSegment: memory that several processes of one host see at once. It has a name only while they meet; afterwards it lives as long as
// one of them has it mapped, so a killed run leaves nothing behind.
#ifndef LYCIA_RUNTIME_COMM_SHARED_SEGMENT_H_
#define LYCIA_RUNTIME_COMM_SHARED_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/core/status.h"

namespace lycia {

class SharedSegment {
 public:
  // A new segment of zeros. Its pages are there at once: what cannot be had is refused here, not by a signal at first use.
  // ResourceExhausted or Unavailable, with the system's reason.
  static StatusOr<std::unique_ptr<SharedSegment>> Create(const std::string& name, std::int64_t bytes);
  // The one that another process created. NotFound where there is none of this name (another host, another container) or of another size.
  static StatusOr<std::unique_ptr<SharedSegment>> Open(const std::string& name, std::int64_t bytes);
  // Whoever has it keeps it; nobody can open it any more.
  static void Forget(const std::string& name);
  // "/lycia-sum-" and 16 random hexadecimal digits.
  static std::string NewName();

  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;
  char* data() const { return data_; }  // page aligned
  std::int64_t bytes() const { return bytes_; }

 private:
  SharedSegment(char* data, std::int64_t bytes) : data_(data), bytes_(bytes) {}
  static StatusOr<std::unique_ptr<SharedSegment>> Map(int file, const std::string& name, std::int64_t bytes);

  char* const data_;
  const std::int64_t bytes_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_SHARED_SEGMENT_H_
