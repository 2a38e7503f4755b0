// Checked files: what is written appears whole or not at all, what is read is a regular file of a believable size.
//
// Every error names the path, the operation, the system's reason and a remedy. Codes follow errno: NotFound, PermissionDenied,
// ResourceExhausted (no space, quota, file size limit), Unavailable (I/O error), ...; DataLoss where a file ends too early.
#ifndef LYCIA_RUNTIME_IO_FILE_H_
#define LYCIA_RUNTIME_IO_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/core/status.h"

namespace lycia {

// "cannot <operation> <path>: <text of error>[, <detail>]; <remedy>", with the status code of the errno value `error`.
Status FileError(int error, std::string_view operation, const std::string& path, std::string_view detail = "");

enum class Symlinks : std::uint8_t { kFollow, kRefuse };  // kRefuse: where the name itself comes from a file we do not trust

// An open regular file (never a FIFO, device or directory), read by position. Movable; any number of threads may read.
class ReadableFile {
 public:
  static StatusOr<ReadableFile> Open(const std::string& path, Symlinks symlinks = Symlinks::kFollow);
  ReadableFile(ReadableFile&& other) noexcept;
  ReadableFile& operator=(ReadableFile&& other) noexcept;
  ~ReadableFile();

  const std::string& path() const { return path_; }
  std::int64_t size() const { return size_; }  // bytes when it was opened
  int descriptor() const { return descriptor_; }
  // Exactly `bytes` bytes from `offset`, or an error; DataLoss where the file is shorter than that.
  Status ReadAt(std::int64_t offset, void* to, std::int64_t bytes) const;

 private:
  ReadableFile(std::string path, int descriptor, std::int64_t size);
  std::string path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

// The whole file; InvalidArgument if it holds more than max_bytes.
StatusOr<std::string> ReadFile(const std::string& path, std::int64_t max_bytes, Symlinks symlinks = Symlinks::kFollow);

// A file under construction. Until Commit it lies beside `path` under a name of its own ending in ".tmp"; without Commit it is removed.
class AtomicFile {
 public:
  // expected_bytes only completes error messages ("at byte 4096 of 65536"); 0 if unknown. Permissions: 0644 less the umask.
  static StatusOr<AtomicFile> Create(const std::string& path, std::int64_t expected_bytes = 0);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status Append(const void* data, std::int64_t bytes);
  std::int64_t written() const { return written_; }
  // Syncs the file, gives it its name (replacing any earlier file) and syncs the directory: after OK it survives a power cut.
  Status Commit();

 private:
  AtomicFile(std::string path, std::string temporary, int descriptor, std::int64_t expected_bytes);
  std::string path_, temporary_;
  int descriptor_ = -1;
  std::int64_t expected_bytes_ = 0, written_ = 0;
};

// All of `content` or nothing, synced.
Status WriteFileAtomically(const std::string& path, std::string_view content);

// A regular file mapped read-only, for data that is read in place (token files). If another process truncates it the access dies with
// SIGBUS, so files that must be refused politely are read through ReadableFile.
class MappedFile {
 public:
  static StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::string_view bytes() const { return {static_cast<const char*>(data_), static_cast<std::size_t>(size_)}; }

 private:
  MappedFile(void* data, std::int64_t size) : data_(data), size_(size) {}
  void* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_IO_FILE_H_
