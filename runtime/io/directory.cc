#include "runtime/io/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "runtime/io/file.h"

namespace lycia {

std::string ParentDirectory(const std::string& path) {
  const std::size_t last = path.find_last_not_of('/');
  if (last == std::string::npos) return path.empty() ? "." : "/";
  const std::size_t slash = path.find_last_of('/', last);
  if (slash == std::string::npos) return ".";
  const std::size_t end = path.find_last_not_of('/', slash);
  return end == std::string::npos ? "/" : path.substr(0, end + 1);
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty() && path.back() != '/') path += '/';
  path += name;
  return path;
}

bool IsBasename(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos && name.find('\0') == name.npos;
}

Status CreateDirectories(const std::string& path, unsigned mode) {
  if (path.empty()) return InvalidArgument("cannot create a folder: its path is empty; name one");
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    struct stat info;
    if (::mkdir(part.c_str(), static_cast<mode_t>(mode)) != 0) {
      const int error = errno;
      if (::stat(part.c_str(), &info) != 0) return FileError(error, "create folder", path);
      if (!S_ISDIR(info.st_mode)) return FileError(ENOTDIR, "create folder", path, absl::StrCat(part, " is a file"));
    }
    if (end == std::string::npos) return OkStatus();
  }
}

Status ProbeWritable(const std::string& directory) {
  Status status = CreateDirectories(directory);
  if (status.ok()) {
    const std::string probe = JoinPath(directory, absl::StrCat(".lycia-probe-", ::getpid()));
    status = WriteFileAtomically(probe, "probe\n");
    if (status.ok() && ::unlink(probe.c_str()) != 0) status = FileError(errno, "remove", probe);
  }
  if (status.ok()) return status;
  return InvalidArgument("output folder ", directory, " is not writable: ", status.message());
}

StatusOr<std::vector<DirectoryEntry>> ListDirectory(const std::string& path) {
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return FileError(errno, "list folder", path);
  std::vector<DirectoryEntry> entries;
  errno = 0;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat info;
    // A name that vanished since is not listed.
    if (::fstatat(::dirfd(directory), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
      entries.push_back({name, S_ISREG(info.st_mode)   ? EntryKind::kFile
                               : S_ISDIR(info.st_mode) ? EntryKind::kDirectory
                                                       : EntryKind::kOther});
    }
    errno = 0;
  }
  const int error = errno;
  ::closedir(directory);
  if (error != 0) return FileError(error, "list folder", path);
  std::sort(entries.begin(), entries.end(), [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
  return entries;
}

namespace {

constexpr int kMaxTreeDepth = 64;

// Removes `name` under the open folder `parent`; `path` is for messages.
Status RemoveAt(int parent, const std::string& name, const std::string& path, int depth) {
  if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return OkStatus();
  if (errno != EISDIR && errno != EPERM) return FileError(errno, "remove", path);
  if (depth == kMaxTreeDepth) return InvalidArgument("cannot remove ", path, ": folders nest deeper than ", kMaxTreeDepth);
  const int descriptor = ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (descriptor < 0) return FileError(errno, "open folder", path);
  DIR* directory = ::fdopendir(descriptor);
  if (directory == nullptr) {
    const int error = errno;
    ::close(descriptor);
    return FileError(error, "list folder", path);
  }
  // Names first, removal after: a folder that changes while it is read may skip entries.
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string child = entry->d_name;
    if (child != "." && child != "..") names.push_back(child);
  }
  Status status;
  for (const std::string& child : names) {
    if (status.ok()) status = RemoveAt(descriptor, child, JoinPath(path, child), depth + 1);
  }
  ::closedir(directory);
  if (!status.ok()) return status;
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) return FileError(errno, "remove folder", path);
  return OkStatus();
}

}  // namespace

Status RemoveTree(const std::string& root, const std::string& name) {
  if (!IsBasename(name)) return InvalidArgument("cannot remove '", name, "' from ", root, ": not the name of an entry of that folder");
  const int parent = ::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) return FileError(errno, "open folder", root);
  const Status status = RemoveAt(parent, name, JoinPath(root, name), 0);
  ::close(parent);
  return status;
}

StatusOr<std::int64_t> FreeBytes(const std::string& path) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) return FileError(errno, "examine the file system of", path);
  return static_cast<std::int64_t>(info.f_bavail) * static_cast<std::int64_t>(info.f_frsize);
}

Status SyncDirectory(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return FileError(errno, "open folder", path);
  int result;
  do {
    result = ::fsync(descriptor);
  } while (result != 0 && errno == EINTR);
  const int error = errno;
  ::close(descriptor);
  if (result != 0 && error != EINVAL && error != ENOTSUP) return FileError(error, "sync folder", path);
  return OkStatus();
}

Status PublishDirectory(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    if (errno != EEXIST && errno != ENOTEMPTY) return FileError(errno, absl::StrCat("rename ", from, " to"), to);
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
      return FileError(errno, absl::StrCat("exchange ", from, " with"), to);
    }
  }
  return SyncDirectory(ParentDirectory(to));
}

}  // namespace lycia
