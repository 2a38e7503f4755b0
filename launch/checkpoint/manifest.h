// What a checkpoint says about itself. No layout appears in it: a tensor is its global name, and files hold flat ranges of tensors, so
// that any number of ranks may load what any other number wrote.
//
// manifest.json is written last and holds everything: the state, the shard files with size and checksum, and each piece with its tensor,
// range and checksum. Its last member is the checksum of all bytes before it, so that one changed bit anywhere is found.
#ifndef LYCIA_LAUNCH_CHECKPOINT_MANIFEST_H_
#define LYCIA_LAUNCH_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/core/tensor.h"

namespace lycia {

// Everything but tensors that a run needs to go on: names are unique within a list. Reals come back bit for bit, NaN and infinities too
// (a NaN as the quiet one).
struct CheckpointState {
  std::int64_t step = 0;                                          // optimizer steps done
  std::vector<std::pair<std::string, std::int64_t>> integers;     // "samples" consumed, "seed", ...
  std::vector<std::pair<std::string, double>> reals;              // "learning_rate", "loss_scale", ...
  std::vector<std::pair<std::string, std::string>> texts;         // "config", "layout" of the writer, ...

  // NotFound names what is missing.
  StatusOr<std::int64_t> Integer(std::string_view name) const;
  StatusOr<double> Real(std::string_view name) const;
  StatusOr<std::string> Text(std::string_view name) const;
  bool operator==(const CheckpointState&) const = default;
};

// Elements [begin, end) of the flat tensor `name`, under `key` in its file.
struct PieceRecord {
  std::string name;  // "weight/h.0.attn.c_attn.weight", "adam_m/...", "adam_v/..."
  DType dtype = DType::kF32;
  Shape logical_shape;
  std::int64_t begin = 0, end = 0;
  std::string key;
  std::string checksum;
  bool operator==(const PieceRecord&) const = default;
};

struct ShardFile {
  std::string file;  // "shard-00000-of-00004.safetensors"
  std::int64_t bytes = 0;
  std::string checksum;
  std::vector<PieceRecord> pieces;
  bool operator==(const ShardFile&) const = default;
};

struct Manifest {
  CheckpointState state;
  std::vector<ShardFile> shards;  // shard i of n at position i
  bool operator==(const Manifest&) const = default;
};

inline constexpr std::int64_t kManifestVersion = 1;
inline constexpr std::int64_t kMaxManifestBytes = std::int64_t{1} << 30;

std::string ManifestText(const Manifest& manifest);
StatusOr<Manifest> ParseManifest(std::string_view text);

// The table that each rank leaves beside its shard for the rank that writes the manifest.
std::string ShardTableText(const ShardFile& shard);
StatusOr<ShardFile> ParseShardTable(std::string_view text);

// A tensor and where its parts are.
struct LogicalTensor {
  struct Part {
    std::int64_t begin = 0, end = 0;
    int shard = 0, piece = 0;  // shards[shard].pieces[piece]
  };
  std::string name;
  TensorSpec spec;
  std::vector<Part> parts;  // in rising order; together exactly all elements
};

// All tensors, by name. An error names the tensor whose pieces disagree in dtype or shape, overlap, or leave elements out.
StatusOr<std::vector<LogicalTensor>> AssembleTensors(const std::vector<ShardFile>& shards);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_MANIFEST_H_
