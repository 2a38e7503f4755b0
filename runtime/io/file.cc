#include "runtime/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/io/directory.h"

namespace lycia {
namespace {

// One call never moves more than this, so that a length fits every kernel's limit (Linux: 2^31 - 4096).
constexpr std::int64_t kMaxTransferBytes = std::int64_t{1} << 30;

const char* Remedy(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return "free space there or choose another folder";
    case EFBIG: return "raise the file size limit (ulimit -f) or choose another file system";
    case EACCES:
    case EPERM: return "check the permissions of the path and of its parents, or choose another";
    case EROFS: return "the file system is read-only; choose another folder";
    case ENOENT: return "check the path";
    case ENOTDIR: return "a part of the path is a file, not a folder; choose another path";
    case EISDIR: return "this is a folder; name a file";
    case EMFILE:
    case ENFILE: return "raise the limit of open files (ulimit -n)";
    case ELOOP: return "it is a symbolic link; put the file itself in its place";
    case ESTALE:
    case EIO: return "the disk or file server failed; see the system log, then try again";
    default: return "correct the cause and try again";
  }
}

int OpenRetrying(const std::string& path, int flags, mode_t mode = 0) {
  int descriptor;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

}  // namespace

Status FileError(int error, std::string_view operation, const std::string& path, std::string_view detail) {
  return Status(absl::ErrnoToStatusCode(error),
                absl::StrCat("cannot ", absl::string_view(operation.data(), operation.size()), " ", path, ": ", std::strerror(error),
                             detail.empty() ? "" : ", ", absl::string_view(detail.data(), detail.size()), "; ", Remedy(error)));
}

StatusOr<ReadableFile> ReadableFile::Open(const std::string& path, Symlinks symlinks) {
  // O_NONBLOCK: opening a FIFO returns at once, so that it can be refused below.
  const int descriptor = OpenRetrying(path, O_RDONLY | O_NONBLOCK | (symlinks == Symlinks::kRefuse ? O_NOFOLLOW : 0));
  if (descriptor < 0) return FileError(errno, "open", path);
  ReadableFile file(path, descriptor, 0);
  struct stat info;
  if (::fstat(descriptor, &info) != 0) return FileError(errno, "examine", path);
  if (S_ISDIR(info.st_mode)) return FileError(EISDIR, "read", path);
  if (!S_ISREG(info.st_mode)) return InvalidArgument("cannot read ", path, ": not a regular file; name a file on disk");
  file.size_ = info.st_size;
  return file;
}

ReadableFile::ReadableFile(std::string path, int descriptor, std::int64_t size)
    : path_(std::move(path)), descriptor_(descriptor), size_(size) {}

ReadableFile::ReadableFile(ReadableFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

ReadableFile& ReadableFile::operator=(ReadableFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

ReadableFile::~ReadableFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status ReadableFile::ReadAt(std::int64_t offset, void* to, std::int64_t bytes) const {
  std::int64_t done = 0;
  while (done < bytes) {
    const std::int64_t want = std::min(bytes - done, kMaxTransferBytes);
    const ssize_t got = ::pread(descriptor_, static_cast<char*>(to) + done, static_cast<std::size_t>(want), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(errno, "read", path_, absl::StrCat("at byte ", offset + done));
    if (got == 0) {
      return absl::DataLossError(absl::StrCat("cannot read ", path_, ": it ends at byte ", offset + done, " where bytes ", offset, " to ",
                                              offset + bytes, " were wanted; the file is truncated, restore it from a copy"));
    }
    done += got;
  }
  return OkStatus();
}

StatusOr<std::string> ReadFile(const std::string& path, std::int64_t max_bytes, Symlinks symlinks) {
  LYCIA_ASSIGN_OR_RETURN(const ReadableFile file, ReadableFile::Open(path, symlinks));
  if (file.size() > max_bytes) {
    return InvalidArgument("cannot read ", path, ": it holds ", file.size(), " bytes, more than the limit of ", max_bytes,
                           "; check that it is the right file");
  }
  std::string content(static_cast<std::size_t>(file.size()), '\0');
  LYCIA_RETURN_IF_ERROR(file.ReadAt(0, content.data(), file.size()));
  return content;
}

StatusOr<AtomicFile> AtomicFile::Create(const std::string& path, std::int64_t expected_bytes) {
  static std::atomic<int> serial{0};
  std::string temporary = absl::StrCat(path, ".", ::getpid(), "-", serial.fetch_add(1), ".tmp");
  int descriptor = OpenRetrying(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
  if (descriptor < 0 && errno == EEXIST) {  // left by a dead process that had our number
    if (::unlink(temporary.c_str()) == 0) descriptor = OpenRetrying(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
  }
  if (descriptor < 0) return FileError(errno, "create", path);
  return AtomicFile(path, std::move(temporary), descriptor, expected_bytes);
}

AtomicFile::AtomicFile(std::string path, std::string temporary, int descriptor, std::int64_t expected_bytes)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor), expected_bytes_(expected_bytes) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      expected_bytes_(other.expected_bytes_),
      written_(other.written_) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

Status AtomicFile::Append(const void* data, std::int64_t bytes) {
  std::int64_t done = 0;
  while (done < bytes) {
    const std::int64_t want = std::min(bytes - done, kMaxTransferBytes);
    const ssize_t put = ::pwrite(descriptor_, static_cast<const char*>(data) + done, static_cast<std::size_t>(want), written_);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      const std::int64_t total = std::max(expected_bytes_, written_ + bytes - done);
      return FileError(put < 0 ? errno : EIO, "write", path_, absl::StrCat("at byte ", written_, " of ", total));
    }
    done += put;
    written_ += put;
  }
  return OkStatus();
}

Status AtomicFile::Commit() {
  int result;
  do {
    result = ::fsync(descriptor_);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return FileError(errno, "sync", path_, absl::StrCat("after ", written_, " bytes"));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return FileError(errno, "rename the finished file to", path_);
  // Some file servers report a failed write only here.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) return FileError(errno, "close", path_);
  return SyncDirectory(ParentDirectory(path_));
}

Status WriteFileAtomically(const std::string& path, std::string_view content) {
  const std::int64_t bytes = static_cast<std::int64_t>(content.size());
  LYCIA_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path, bytes));
  LYCIA_RETURN_IF_ERROR(file.Append(content.data(), bytes));
  return file.Commit();
}

StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  LYCIA_ASSIGN_OR_RETURN(const ReadableFile file, ReadableFile::Open(path));
  if (file.size() == 0) return MappedFile(nullptr, 0);
  void* data = ::mmap(nullptr, static_cast<std::size_t>(file.size()), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (data == MAP_FAILED) return FileError(errno, "map", path, absl::StrCat(file.size(), " bytes"));
  return MappedFile(data, file.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, static_cast<std::size_t>(size_));
}

}  // namespace lycia
