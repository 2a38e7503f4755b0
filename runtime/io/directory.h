// Folders: made, probed, listed, published and removed, with the errors of file.h.
#ifndef LYCIA_RUNTIME_IO_DIRECTORY_H_
#define LYCIA_RUNTIME_IO_DIRECTORY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

// "a/b" for "a/b/c", "." for "c", "/" for "/c".
std::string ParentDirectory(const std::string& path);
std::string JoinPath(std::string_view directory, std::string_view name);
// True for the name of one file in one folder: not empty, no '/', not "." or "..", no NUL.
bool IsBasename(std::string_view name);

// Like mkdir -p; permissions are `mode` less the umask. OK where the folder is there already.
Status CreateDirectories(const std::string& path, unsigned mode = 0755);

// Makes the folder if it is missing, then writes, syncs and removes a small file in it. Every failure is InvalidArgument: a user's mistake
// to be told before any work starts.
Status ProbeWritable(const std::string& directory);

enum class EntryKind : std::uint8_t { kFile, kDirectory, kOther };  // links are kOther, whatever they point to
struct DirectoryEntry {
  std::string name;
  EntryKind kind = EntryKind::kOther;
};
// Without "." and "..", sorted by name.
StatusOr<std::vector<DirectoryEntry>> ListDirectory(const std::string& path);

// Removes the file or folder `name`, which must lie directly in `root` (a basename), with all it holds; never follows a link.
// OK where it is missing.
Status RemoveTree(const std::string& root, const std::string& name);

// Bytes an ordinary user may still write on the file system that holds `path`.
StatusOr<std::int64_t> FreeBytes(const std::string& path);

// The names in this folder survive a power cut. A file system that cannot sync folders counts as synced.
Status SyncDirectory(const std::string& path);

// Gives the folder `from` the name `to`, both directly in the same parent, which is synced. At every instant `to` is whole: where it
// exists already the two are exchanged, and `from` then holds what `to` was.
Status PublishDirectory(const std::string& from, const std::string& to);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_IO_DIRECTORY_H_
