#include "runtime/comm/shared_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lycia {
namespace {

Status Refused(const std::string& name, std::string_view what, int error) {
  return absl::UnavailableError(absl::StrCat("shared memory ", name, " cannot be ", std::string(what), ": ", std::strerror(error)));
}

}  // namespace

StatusOr<std::unique_ptr<SharedSegment>> SharedSegment::Create(const std::string& name, std::int64_t bytes) {
  const int file = ::shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return Refused(name, "created", errno);
  // Half of what is free is left to others: MPI's own files there are sparse, and their first touch would end in SIGBUS.
  struct statvfs room {};
  const bool enough = ::fstatvfs(file, &room) != 0 || bytes <= static_cast<std::int64_t>(room.f_bavail * room.f_frsize / 2);
  const int error = enough ? ::posix_fallocate(file, 0, bytes) : ENOSPC;  // so that no touch of ours ends there either
  if (error != 0) {
    ::close(file);
    Forget(name);
    return absl::ResourceExhaustedError(absl::StrCat("no ", bytes >> 20, " MiB of shared memory for sums: ", std::strerror(error),
                                                     "; enlarge /dev/shm (docker run --shm-size=1g)"));
  }
  StatusOr<std::unique_ptr<SharedSegment>> segment = Map(file, name, bytes);
  if (!segment.ok()) Forget(name);
  return segment;
}

StatusOr<std::unique_ptr<SharedSegment>> SharedSegment::Open(const std::string& name, std::int64_t bytes) {
  const int file = ::shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0);
  struct stat found {};
  if (file < 0 || ::fstat(file, &found) != 0 || found.st_size != bytes) {
    if (file >= 0) ::close(file);
    return absl::NotFoundError(absl::StrCat("no shared memory ", name, " of ", bytes, " bytes on this host"));
  }
  return Map(file, name, bytes);
}

void SharedSegment::Forget(const std::string& name) { ::shm_unlink(name.c_str()); }

std::string SharedSegment::NewName() {
  std::random_device random;
  return absl::StrFormat("/lycia-sum-%08x%08x", random(), random());
}

StatusOr<std::unique_ptr<SharedSegment>> SharedSegment::Map(int file, const std::string& name, std::int64_t bytes) {
  void* data = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int error = errno;
  ::close(file);
  if (data == MAP_FAILED) return Refused(name, "mapped", error);
  return std::unique_ptr<SharedSegment>(new SharedSegment(static_cast<char*>(data), bytes));
}

SharedSegment::~SharedSegment() { ::munmap(data_, static_cast<std::size_t>(bytes_)); }

}  // namespace lycia
