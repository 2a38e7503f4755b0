// A fresh folder for one test, removed with all it holds.
#ifndef LYCIA_RUNTIME_IO_TEMP_DIRECTORY_H_
#define LYCIA_RUNTIME_IO_TEMP_DIRECTORY_H_

#include <stdlib.h>

#include <string>

#include "runtime/core/check.h"
#include "runtime/io/directory.h"

namespace lycia {

class TempDirectory {
 public:
  TempDirectory() {
    const char* base = ::getenv("TEST_TMPDIR");
    path_ = JoinPath(base != nullptr ? base : "/tmp", "lycia_XXXXXX");
    LYCIA_CHECK(::mkdtemp(path_.data()) != nullptr) << path_;
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory() { (void)RemoveTree(ParentDirectory(path_), path_.substr(path_.rfind('/') + 1)); }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return JoinPath(path_, name); }

 private:
  std::string path_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_IO_TEMP_DIRECTORY_H_
