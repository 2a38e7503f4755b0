// safetensors: bytes 0-7 header length N (u64, little-endian); N bytes of JSON {"__metadata__": {text: text}, name: {"dtype", "shape",
// "data_offsets": [begin, end]}}, padded with spaces to a multiple of 8; then the data, which the tensors tile exactly.
//
// A file is never believed: lengths are compared with the file's size before memory is asked for, all sizes are computed with overflow
// checks, names occur once, tensors leave no gap, no overlap and no tail. A bad file is InvalidArgument with path, tensor and reason.
#ifndef LYCIA_RUNTIME_IO_SAFETENSORS_H_
#define LYCIA_RUNTIME_IO_SAFETENSORS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/core/tensor.h"
#include "runtime/io/file.h"

namespace lycia {

// "F32" for kF32: the format's names.
std::string_view SafetensorsName(DType dtype);

// One tensor of a file. `dtype` is empty for number types that Lycia does not compute with (BOOL, F8_E4M3, ...): listed, not loaded.
struct TensorView {
  std::string name;
  std::string dtype_name;
  std::optional<DType> dtype;
  Shape shape;
  std::int64_t offset = 0;  // of its first byte, from the start of the file
  std::int64_t bytes = 0;
};

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

struct SafetensorsHeader {
  std::vector<TensorView> tensors;  // in the order of their data
  SafetensorsMetadata metadata;
};

inline constexpr std::int64_t kSafetensorsMaxHeaderBytes = 100'000'000;  // of the reference reader
inline constexpr std::int64_t kSafetensorsMaxNameBytes = 1024;

// The header's JSON (without its length) of a file of file_bytes bytes.
StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, std::int64_t file_bytes);

class SafetensorsFile {
 public:
  struct Options {
    std::int64_t max_header_bytes = kSafetensorsMaxHeaderBytes;
    Symlinks symlinks = Symlinks::kFollow;
  };
  static StatusOr<SafetensorsFile> Open(const std::string& path, const Options& options);
  static StatusOr<SafetensorsFile> Open(const std::string& path) { return Open(path, Options{}); }

  const std::string& path() const { return file_.path(); }
  const ReadableFile& file() const { return file_; }
  const std::vector<TensorView>& tensors() const { return header_.tensors; }
  const SafetensorsMetadata& metadata() const { return header_.metadata; }
  const TensorView* Find(std::string_view name) const;  // nullptr where there is none
  // Elements [begin, end) of the flat tensor, as they are stored; `tensor` is one of tensors() and has a dtype.
  Status Read(const TensorView& tensor, std::int64_t begin, std::int64_t end, void* to) const;

 private:
  SafetensorsFile(ReadableFile file, SafetensorsHeader header);
  ReadableFile file_;
  SafetensorsHeader header_;
  absl::flat_hash_map<std::string, int> index_of_;
};

// A model in one file or several: `path` is a .safetensors file, a model.safetensors.index.json, or a folder that holds
// model.safetensors or that index. Files named by an index must lie beside it and be no links.
class SafetensorsModel {
 public:
  struct Entry {
    const SafetensorsFile* file = nullptr;
    const TensorView* tensor = nullptr;
  };
  static StatusOr<SafetensorsModel> Open(const std::string& path);

  const std::vector<std::string>& names() const { return names_; }  // sorted
  // NotFound names the tensor and the path.
  StatusOr<Entry> Find(std::string_view name) const;

 private:
  Status AddIndex(const std::string& path);
  void Add(const std::string& name, const SafetensorsFile& file, const TensorView& tensor);
  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<std::string> names_;
  absl::flat_hash_map<std::string, Entry> entries_;
};

// What to write. Either `data` (row-major, little-endian, spec.bytes()) or `read`, called for consecutive ranges of bytes of the tensor, so
// that a model larger than memory can be exported.
struct TensorSource {
  std::string name;
  TensorSpec spec;
  const void* data = nullptr;
  std::function<Status(std::int64_t first_byte, std::int64_t bytes, void* to)> read;
};

struct SafetensorsSummary {
  std::int64_t bytes = 0;  // of the file
  std::string checksum;    // of the file (checksum.h)
  std::vector<std::string> tensor_checksums;  // in the order of the sources
};

// Whole or not at all, synced (file.h). Data order: falling alignment, then name, as the reference writer does.
StatusOr<SafetensorsSummary> WriteSafetensors(const std::string& path, absl::Span<const TensorSource> tensors,
                                              const SafetensorsMetadata& metadata = {});

// The first bytes WriteSafetensors would write: length and padded header; `order` receives the data order as indices of `tensors`.
StatusOr<std::string> SafetensorsPrefix(absl::Span<const TensorSource> tensors, const SafetensorsMetadata& metadata,
                                        std::vector<int>* order);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_IO_SAFETENSORS_H_
