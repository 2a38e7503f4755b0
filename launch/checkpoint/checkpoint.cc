#include "launch/checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "launch/checkpoint/names.h"
#include "runtime/io/checksum.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"

namespace lycia {
namespace {

constexpr std::int64_t kBlockBytes = 4 << 20;

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

Status Damaged(const std::string& path, std::string_view why) { return absl::DataLossError(absl::StrCat(path, ": ", Absl(why))); }

// The checksum of bytes [begin, end) of the file.
StatusOr<std::string> ChecksumOfRange(const ReadableFile& file, std::int64_t begin, std::int64_t end) {
  Checksum checksum;
  std::vector<char> block(static_cast<std::size_t>(std::min(kBlockBytes, end - begin)));
  for (std::int64_t at = begin; at < end; at += kBlockBytes) {
    const std::int64_t bytes = std::min(kBlockBytes, end - at);
    LYCIA_RETURN_IF_ERROR(file.ReadAt(at, block.data(), bytes));
    checksum.Update(block.data(), bytes);
  }
  return checksum.Hex();
}

std::string RangeText(const PieceRecord& piece) {
  const std::string range = absl::StrCat("tensor ", piece.name, ", elements ", piece.begin, " to ", piece.end);
  if (piece.block.rows.empty()) return range;
  return absl::StrCat(range, " of a block of ", piece.block.num_rows(), " x ", piece.block.num_columns(), " (entry ", piece.key, ")");
}

}  // namespace

StatusOr<Checkpoint> Checkpoint::Open(const std::string& path, Verify verify) {
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  const std::string manifest_path = JoinPath(path, kManifestName);
  const StatusOr<std::string> text = ReadFile(manifest_path, kMaxManifestBytes, Symlinks::kRefuse);
  if (!text.ok()) return absl::DataLossError(text.status().message());
  StatusOr<Manifest> manifest = ParseManifest(*text);
  if (!manifest.ok()) return Damaged(manifest_path, std::string(manifest.status().message()));
  checkpoint.manifest_ = *std::move(manifest);
  StatusOr<std::vector<LogicalTensor>> tensors = AssembleTensors(checkpoint.manifest_.shards);
  if (!tensors.ok()) return Damaged(manifest_path, std::string(tensors.status().message()));
  checkpoint.tensors_ = *std::move(tensors);
  for (std::size_t i = 0; i < checkpoint.tensors_.size(); ++i) checkpoint.index_of_[checkpoint.tensors_[i].name] = static_cast<int>(i);
  LYCIA_RETURN_IF_ERROR(checkpoint.OpenShards());
  for (std::size_t s = 0; verify == Verify::kChecksums && s < checkpoint.files_.size(); ++s) {
    LYCIA_RETURN_IF_ERROR(checkpoint.VerifyShard(s));
  }
  return checkpoint;
}

Status Checkpoint::OpenShards() {
  for (const ShardFile& shard : manifest_.shards) {
    const Status status = OpenShard(shard);
    if (!status.ok()) return absl::DataLossError(status.message());
  }
  return OkStatus();
}

Status Checkpoint::OpenShard(const ShardFile& shard) {
  const std::string path = JoinPath(path_, shard.file);
  LYCIA_ASSIGN_OR_RETURN(const ReadableFile probe, ReadableFile::Open(path, Symlinks::kRefuse));
  if (probe.size() != shard.bytes) {
    return Damaged(path, absl::StrCat("it holds ", probe.size(), " bytes and must hold ", shard.bytes,
                                      probe.size() < shard.bytes ? "; it is truncated" : ""));
  }
  SafetensorsFile::Options options;
  options.symlinks = Symlinks::kRefuse;
  LYCIA_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path, options));
  files_.push_back(std::move(file));
  views_.emplace_back();
  for (const PieceRecord& piece : shard.pieces) {
    const TensorView* view = files_.back().Find(piece.key);
    if (view == nullptr) return Damaged(path, absl::StrCat("no entry ", piece.key));
    if (view->dtype != piece.dtype || view->shape.elements() != piece.end - piece.begin) {
      return Damaged(path, absl::StrCat("entry ", piece.key, " is ", view->dtype_name, view->shape.ToString(), ", not ", RangeText(piece),
                                        " of ", Absl(Name(piece.dtype))));
    }
    views_.back().push_back(view);
  }
  verified_.push_back(std::make_unique<std::atomic<bool>[]>(shard.pieces.size()));
  return OkStatus();
}

Status Checkpoint::VerifyShard(std::size_t shard) const {
  const ShardFile& record = manifest_.shards[shard];
  const ReadableFile& file = files_[shard].file();
  const StatusOr<std::string> checksum = ChecksumOfRange(file, 0, file.size());
  if (!checksum.ok()) return absl::DataLossError(checksum.status().message());
  const bool whole = *checksum == record.checksum;
  // The file's checksum covers every piece; after a mismatch the pieces tell where.
  for (std::size_t p = 0; p < record.pieces.size(); ++p) {
    verified_[shard][p] = whole;
    if (!whole) LYCIA_RETURN_IF_ERROR(VerifyPiece(static_cast<int>(shard), static_cast<int>(p)));
  }
  if (!whole) return Damaged(file.path(), "its header does not match the checksum; it changed after it was written");
  return OkStatus();
}

Status Checkpoint::VerifyPiece(int shard, int piece) const {
  const std::size_t s = static_cast<std::size_t>(shard), p = static_cast<std::size_t>(piece);
  if (verified_[s][p].load(std::memory_order_relaxed)) return OkStatus();
  const PieceRecord& record = manifest_.shards[s].pieces[p];
  const TensorView& view = *views_[s][p];
  const StatusOr<std::string> checksum = ChecksumOfRange(files_[s].file(), view.offset, view.offset + view.bytes);
  if (!checksum.ok()) return absl::DataLossError(checksum.status().message());
  if (*checksum != record.checksum) {
    return Damaged(files_[s].path(), absl::StrCat(RangeText(record), ": its checksum does not match; bytes changed after the save"));
  }
  verified_[s][p].store(true, std::memory_order_relaxed);
  return OkStatus();
}

const LogicalTensor* Checkpoint::Find(std::string_view name) const {
  const auto found = index_of_.find(Absl(name));
  return found == index_of_.end() ? nullptr : &tensors_[static_cast<std::size_t>(found->second)];
}

Status Checkpoint::ReadRange(std::string_view name, std::int64_t begin, std::int64_t end, void* to) const {
  const LogicalTensor* tensor = Find(name);
  if (tensor == nullptr) return absl::NotFoundError(absl::StrCat("checkpoint ", path_, " holds no tensor ", Absl(name)));
  if (begin < 0 || end < begin || end > tensor->spec.elements()) {
    return InvalidArgument("checkpoint ", path_, ": elements ", begin, " to ", end, " are not within ", tensor->name, " ",
                           tensor->spec.ToString());
  }
  const Block block = WholeTensor(tensor->spec.elements());
  return Read(*tensor, BlockIndex({&block, begin, end}), to);
}

Status Checkpoint::Read(const LogicalTensor& tensor, const BlockIndex& wanted, void* to) const {
  std::vector<char> window;
  for (const LogicalTensor::Part& part : tensor.parts) {
    if (part.first >= wanted.last() || part.last <= wanted.first()) continue;
    LYCIA_RETURN_IF_ERROR(ReadFrom(part, wanted, static_cast<char*>(to), window));
  }
  return OkStatus();
}

// Goes through the stored piece in its own order, a window at a time: one read from the first to the last byte that is wanted there,
// however many runs of a few elements they are.
Status Checkpoint::ReadFrom(const LogicalTensor::Part& part, const BlockIndex& wanted, char* to, std::vector<char>& window) const {
  struct Copy {
    std::int64_t from, to, count;  // in elements: of the stored piece, of what is wanted
  };
  const std::size_t s = static_cast<std::size_t>(part.shard), p = static_cast<std::size_t>(part.piece);
  const PieceRecord& piece = manifest_.shards[s].pieces[p];
  const Block block = piece.block.rows.empty() ? WholeTensor(piece.logical_shape.elements()) : piece.block;
  const IndexRange within = ElementsWithin(block, wanted.first(), wanted.last());
  const std::int64_t begin = std::max(piece.begin, within.first), end = std::min(piece.end, within.first + within.count);
  const std::int64_t size = SizeOf(piece.dtype), step = kBlockBytes / size;
  std::vector<Copy> copies;
  for (std::int64_t at = begin; at < end; at += step) {
    copies.clear();
    for (const ElementRun& run : Runs(block, at, std::min(end, at + step))) {
      if (run.tensor < 0) continue;
      const std::int64_t last = std::min(run.tensor + run.count, wanted.last());
      for (std::int64_t element = std::max(run.tensor, wanted.first()); element < last;) {
        const BlockIndex::Place place = wanted.Find(element);
        const std::int64_t count = std::min(place.count, last - element);
        if (place.local >= 0) copies.push_back({at - piece.begin + run.local + element - run.tensor, place.local, count});
        element += count;
      }
    }
    if (copies.empty()) continue;
    LYCIA_RETURN_IF_ERROR(VerifyPiece(part.shard, part.piece));
    const std::int64_t first = copies.front().from, last = copies.back().from + copies.back().count;
    if (copies.size() == 1) {
      LYCIA_RETURN_IF_ERROR(files_[s].Read(*views_[s][p], first, last, to + copies[0].to * size));
      continue;
    }
    window.resize(std::max(window.size(), static_cast<std::size_t>((last - first) * size)));
    LYCIA_RETURN_IF_ERROR(files_[s].Read(*views_[s][p], first, last, window.data()));
    for (const Copy& copy : copies) {
      std::memcpy(to + copy.to * size, window.data() + (copy.from - first) * size, static_cast<std::size_t>(copy.count * size));
    }
  }
  return OkStatus();
}

Status Checkpoint::Load(absl::Span<const Piece> pieces) const {
  for (const Piece& piece : pieces) {
    const LogicalTensor* tensor = Find(piece.name);
    const TensorSpec wanted{piece.dtype, piece.logical_shape};
    if (tensor != nullptr && !(tensor->spec == wanted)) {
      return InvalidArgument("checkpoint ", path_, ": tensor ", piece.name, " is ", tensor->spec.ToString(), " and this run needs ",
                             wanted.ToString(), "; resume with the model and precision that wrote it");
    }
    if (tensor == nullptr || piece.block.rows.empty()) {
      LYCIA_RETURN_IF_ERROR(ReadRange(piece.name, piece.begin, piece.end, piece.data));
      continue;
    }
    LYCIA_RETURN_IF_ERROR(Annotate(CheckBlock(piece.block, wanted.elements()), absl::StrCat("tensor ", piece.name)));
    if (piece.begin < 0 || piece.end < piece.begin || piece.end > piece.block.elements()) {
      return InvalidArgument("checkpoint ", path_, ": elements ", piece.begin, " to ", piece.end, " are not within a block of ",
                             piece.block.num_rows(), " x ", piece.block.num_columns(), " of ", piece.name);
    }
    const BlockIndex index({&piece.block, piece.begin, piece.end});
    if (index.elements() < piece.end - piece.begin) std::memset(piece.data, 0, static_cast<std::size_t>(piece.bytes()));
    LYCIA_RETURN_IF_ERROR(Read(*tensor, index, piece.data));
  }
  return OkStatus();
}

std::string CheckpointPath(const std::string& directory, std::int64_t step) { return JoinPath(directory, StepDirectoryName(step)); }

StatusOr<Checkpoint> OpenNewestCheckpoint(const std::string& directory, std::vector<std::string>* warnings) {
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::int64_t> steps, ListCheckpointSteps(directory));
  if (steps.empty()) return absl::NotFoundError(absl::StrCat("no checkpoint in ", directory));
  std::string newest_problem;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    StatusOr<Checkpoint> checkpoint = Checkpoint::Open(CheckpointPath(directory, *step), Verify::kChecksums);
    if (checkpoint.ok() && checkpoint->step() == *step) return checkpoint;
    const std::string problem = checkpoint.ok() ? absl::StrCat(checkpoint->path(), " says it is step ", checkpoint->step())
                                                : std::string(checkpoint.status().message());
    warnings->push_back(absl::StrCat("checkpoint of step ", *step, " is not used: ", problem));
    if (newest_problem.empty()) newest_problem = problem;
  }
  return absl::DataLossError(absl::StrCat("none of the ", steps.size(), " checkpoints in ", directory, " is sound (newest: ",
                                          newest_problem, "); restore one from a copy, or start anew in another folder"));
}

}  // namespace lycia
