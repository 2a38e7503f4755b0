// Checkpoint: a saved state, opened for reading by any number of ranks in any layout.
#ifndef LYCIA_LAUNCH_CHECKPOINT_CHECKPOINT_H_
#define LYCIA_LAUNCH_CHECKPOINT_CHECKPOINT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "launch/checkpoint/block_index.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/piece.h"
#include "runtime/core/status.h"
#include "runtime/io/safetensors.h"

namespace lycia {

enum class Verify : std::uint8_t {
  kSizes,      // manifest, headers and sizes now; each piece's checksum when it is first read
  kChecksums,  // every byte of every file now
};

class Checkpoint {
 public:
  // `path` is one step's folder. Any damage is DataLoss with the file and the reason.
  static StatusOr<Checkpoint> Open(const std::string& path, Verify verify);

  const std::string& path() const { return path_; }
  const CheckpointState& state() const { return manifest_.state; }
  std::int64_t step() const { return manifest_.state.step; }
  const std::vector<LogicalTensor>& tensors() const { return tensors_; }  // by name
  const LogicalTensor* Find(std::string_view name) const;                 // nullptr where there is none

  // Elements [begin, end) of the flat tensor into host memory, in the stored dtype. NotFound without such a tensor, InvalidArgument outside
  // of it, DataLoss where the bytes are not those that were saved. Several threads may read at once.
  Status ReadRange(std::string_view name, std::int64_t begin, std::int64_t end, void* to) const;
  // Fills every piece (host memory), of the flat tensor or of a block, whatever the pieces that are stored; padding becomes zero. Its dtype
  // and logical shape must be those stored. Errors as above.
  Status Load(absl::Span<const Piece> pieces) const;

 private:
  Status OpenShards();
  Status OpenShard(const ShardFile& shard);
  Status VerifyShard(std::size_t shard) const;
  Status VerifyPiece(int shard, int piece) const;
  // Everything of `wanted` that the tensor's stored pieces hold, `to` where it belongs.
  Status Read(const LogicalTensor& tensor, const BlockIndex& wanted, void* to) const;
  Status ReadFrom(const LogicalTensor::Part& part, const BlockIndex& wanted, char* to, std::vector<char>& window) const;

  std::string path_;
  Manifest manifest_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::vector<const TensorView*>> views_;  // [shard][piece]
  std::vector<LogicalTensor> tensors_;
  absl::flat_hash_map<std::string, int> index_of_;
  // [shard][piece]: its checksum was seen to be right
  std::vector<std::unique_ptr<std::atomic<bool>[]>> verified_;
};

// directory/step_00000020
std::string CheckpointPath(const std::string& directory, std::int64_t step);

// The newest sound checkpoint in `directory`. Each newer one that is not sound adds a line with file and reason to `warnings`.
// NotFound where there is none at all; DataLoss where there are some and none is sound: no run may then start from random numbers.
// Of several ranks one calls this and tells the others the step; those call Checkpoint::Open(CheckpointPath(..), Verify::kSizes).
StatusOr<Checkpoint> OpenNewestCheckpoint(const std::string& directory, std::vector<std::string>* warnings);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_CHECKPOINT_H_
