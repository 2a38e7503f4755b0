// What a checkpoint says about itself. No layout appears in it: a tensor is its global name, and files hold flat ranges of tensors or of
// blocks of them, so that any number of ranks on any grid may load what any other wrote.
//
// manifest.json is written last and holds everything: the state, the shard files with size and checksum, and each piece with its tensor,
// block, range and checksum. A block is told by its ranges of rows and columns, once a shard: weights and optimizer states of all layers
// share it. The last member is the checksum of all bytes before it, so that one changed bit anywhere is found.
#ifndef LYCIA_LAUNCH_CHECKPOINT_MANIFEST_H_
#define LYCIA_LAUNCH_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parallel/grid/block.h"
#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/core/tensor.h"

namespace lycia {

// Everything but tensors that a run needs to go on: names are unique within a list. Reals come back bit for bit, NaN and infinities too
// (a NaN as the quiet one).
struct CheckpointState {
  std::int64_t step = 0;                                       // optimizer steps done
  std::vector<std::pair<std::string, std::int64_t>> integers;  // "samples" consumed, "seed", ...
  std::vector<std::pair<std::string, double>> reals;           // "learning_rate", "loss_scale", ...
  std::vector<std::pair<std::string, std::string>> texts;      // "config", "layout" of the writer, ...

  // NotFound names what is missing.
  StatusOr<std::int64_t> Integer(std::string_view name) const;
  StatusOr<double> Real(std::string_view name) const;
  StatusOr<std::string> Text(std::string_view name) const;
  bool operator==(const CheckpointState&) const = default;
};

// A Piece as it is stored: under `key` in its file.
struct PieceRecord {
  std::string name;  // "weight/h.0.attn.c_attn.weight", "adam_m/...", "adam_v/..."
  DType dtype = DType::kF32;
  Shape logical_shape;
  std::int64_t begin = 0, end = 0;
  std::string key;
  std::string checksum;
  Block block = {};  // no rows: the whole tensor in order
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

// Version 2 has blocks. A manifest without them is still written as version 1, which earlier programs read.
inline constexpr std::int64_t kManifestVersion = 2;
inline constexpr std::int64_t kMaxManifestBytes = std::int64_t{1} << 30;

std::string ManifestText(const Manifest& manifest);
StatusOr<Manifest> ParseManifest(std::string_view text);

// The table that each rank leaves beside its shard for the rank that writes the manifest.
std::string ShardTableText(const ShardFile& shard);
StatusOr<ShardFile> ParseShardTable(std::string_view text);

// A tensor and where its parts are.
struct LogicalTensor {
  struct Part {
    int shard = 0, piece = 0;          // shards[shard].pieces[piece]
    std::int64_t first = 0, last = 0;  // of the flat tensor: no element outside [first, last) is in the piece
  };
  std::string name;
  TensorSpec spec;
  std::vector<Part> parts;  // by `first`; together exactly all elements
};

// All tensors, by name. An error names the tensor whose pieces disagree in dtype, shape or the blocks' tensor_columns, name rows or columns
// that are none, overlap, or leave elements out.
StatusOr<std::vector<LogicalTensor>> AssembleTensors(const std::vector<ShardFile>& shards);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_MANIFEST_H_
