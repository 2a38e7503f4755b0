// Data files, packed by gzip or not.
#ifndef LYCIA_LAUNCH_DATA_GZIP_FILE_H_
#define LYCIA_LAUNCH_DATA_GZIP_FILE_H_

#include <cstdint>
#include <string>

#include "runtime/core/status.h"

namespace lycia {

// The bytes of a file, unpacked when it begins as a gzip file does, whatever its name; several gzip members make one content.
// InvalidArgument with the path: a file that is missing, no regular file or unreadable, a damaged or truncated gzip stream, bytes after its
// end, more than max_bytes (packed or unpacked).
StatusOr<std::string> ReadDataFile(const std::string& path, std::int64_t max_bytes);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_GZIP_FILE_H_
