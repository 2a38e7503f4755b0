#include "launch/checkpoint/writer.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/prune.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"

namespace lycia {
namespace {

constexpr std::int64_t kAlignment = 64;  // of each piece in the staging buffer
constexpr std::chrono::milliseconds kFirstNap{1}, kLongestNap{50};
// A file system that is nearly full slows down and other files grow: the last tenth is not ours.
constexpr double kFreeSpaceFactor = 1.1;

std::int64_t RoundUp(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

bool IsWhole(const Piece& piece) { return piece.block.rows.empty() && piece.begin == 0 && piece.end == piece.logical_shape.elements(); }

// Whole rows, or part of one row, are a range of the flat tensor: written as such.
void FlattenBlock(Piece& piece) {
  const Block& block = piece.block;
  if (block.rows.size() != 1 || block.rows[0].first < 0 || block.columns.size() != 1 || block.columns[0].first < 0) return;
  if (!block.has_whole_rows() && block.rows[0].count > 1) return;
  const std::int64_t first = block.rows[0].first * block.tensor_columns + block.columns[0].first;
  piece.begin += first;
  piece.end += first;
  piece.block = {};
}

// A whole tensor keeps its name and shape, so that a shard of one rank is a model file like any other. A rank may have parts of several
// blocks of a tensor; `number` tells them apart.
TensorSource SourceOf(const Piece& piece, std::size_t number, const void* data) {
  if (IsWhole(piece)) return {piece.name, {piece.dtype, piece.logical_shape}, data, {}};
  const std::string block = piece.block.rows.empty() ? "" : absl::StrCat("{", number, "}");
  return {absl::StrCat(piece.name, block, "[", piece.begin, ":", piece.end, "]"), {piece.dtype, {piece.end - piece.begin}}, data, {}};
}

}  // namespace

std::int64_t StagingBytes(absl::Span<const Piece> pieces) {
  std::int64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += RoundUp(piece.bytes());
  return bytes;
}

StatusOr<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(const Options& options, std::vector<Piece> pieces, void* staging) {
  LYCIA_CHECK(0 <= options.rank && options.rank < options.ranks) << options.rank << " of " << options.ranks;
  LYCIA_CHECK(ParseAttemptDirectoryName(AttemptDirectoryName({0, options.run, 0}))) << "run '" << options.run << "' ";
  if (options.keep < 1) return InvalidArgument("checkpoint.keep = ", options.keep, " would keep none; use 1 or more");
  for (Piece& piece : pieces) {
    const std::int64_t elements = piece.logical_shape.elements();
    if (!piece.block.rows.empty()) LYCIA_CHECK_OK(Annotate(CheckBlock(piece.block, elements), piece.name));
    const std::int64_t limit = piece.block.rows.empty() ? elements : piece.block.elements();
    LYCIA_CHECK(0 <= piece.begin && piece.begin <= piece.end && piece.end <= limit) << piece.name;
    FlattenBlock(piece);
  }
  // A rank whose part of a tensor is empty writes nothing of it, unless the tensor itself is.
  std::erase_if(pieces, [](const Piece& piece) { return piece.begin == piece.end && !IsWhole(piece); });
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(options, std::move(pieces), staging));
  std::vector<int> order;
  LYCIA_RETURN_IF_ERROR(SafetensorsPrefix(writer->sources_, {}, &order).status());
  return writer;
}

CheckpointWriter::CheckpointWriter(const Options& options, std::vector<Piece> pieces, void* staging)
    : options_(options), pieces_(std::move(pieces)), staging_(static_cast<char*>(staging)), state_(options.like) {
  std::int64_t offset = 0;
  for (const Piece& piece : pieces_) {
    sources_.push_back(SourceOf(piece, sources_.size(), staging_ + offset));
    offset += RoundUp(piece.bytes());
  }
  thread_ = std::thread([this] { Run(); });
}

CheckpointWriter::~CheckpointWriter() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

Status CheckpointWriter::Save(const CheckpointState& state, Stream& stream) {
  LYCIA_RETURN_IF_ERROR(done_.Wait(saves_, stream.guard()));
  std::int64_t offset = 0;
  for (const Piece& piece : pieces_) {
    if (piece.bytes() > 0) stream.Copy(staging_ + offset, piece.data, piece.bytes());
    offset += RoundUp(piece.bytes());
  }
  LYCIA_RETURN_IF_ERROR(stream.Synchronize());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    state_ = state;
    requested_ = ++saves_;
  }
  changed_.notify_one();
  return OkStatus();
}

Status CheckpointWriter::Wait(WaitGuard* guard) {
  LYCIA_RETURN_IF_ERROR(done_.Wait(saves_, guard));
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(failure_, OkStatus());
}

void CheckpointWriter::Run() {
  for (std::uint64_t save = 1;; ++save) {
    Attempt attempt;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || requested_ == save; });
      if (requested_ < save) return;
      attempt = {state_.step, options_.run, static_cast<std::int64_t>(save)};
    }
    Status status = Annotate(WriteAndCommit(attempt), absl::StrCat("checkpoint of step ", attempt.step));
    failures_in_a_row_ = status.ok() ? 0 : failures_in_a_row_ + 1;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (failure_.ok()) failure_ = std::move(status);
    }
    done_.Complete(save);
  }
}

namespace {

// Rank 0 need not wait in vain. On a full disk a name may still find room where the reason does not.
void TellFailure(const std::string& path, const Status& status) {
  const std::string_view reason(status.message().data(), status.message().size());
  if (!WriteFileAtomically(path, reason).ok()) (void)WriteFileAtomically(path, "");
}

}  // namespace

Status CheckpointWriter::WriteAndCommit(const Attempt& attempt) {
  const std::string name = AttemptDirectoryName(attempt);
  const std::string path = JoinPath(options_.directory, name);
  Status status = CreateDirectories(path);
  if (status.ok()) {
    const StatusOr<ShardFile> shard = WriteShard(path);
    status = shard.ok() ? WriteFileAtomically(JoinPath(path, ShardTableName(options_.rank)), ShardTableText(*shard)) : shard.status();
  }
  if (options_.rank != 0) {
    if (!status.ok()) TellFailure(JoinPath(path, ShardFailureName(options_.rank)), status);
    return status;
  }
  if (status.ok()) status = Commit(attempt, path);
  if (!status.ok()) (void)RemoveTree(options_.directory, name);  // gives the space back
  return status;
}

StatusOr<ShardFile> CheckpointWriter::WriteShard(const std::string& path) const {
  ShardFile shard;
  shard.file = ShardFileName(options_.rank, options_.ranks);
  const std::int64_t needed = static_cast<std::int64_t>(static_cast<double>(StagingBytes(pieces_)) * kFreeSpaceFactor);
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t free_bytes, FreeBytes(path));
  if (free_bytes < needed) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot write ", JoinPath(path, shard.file), ": it needs ", needed,
                                                     " bytes of free space with reserve and the file system has ", free_bytes,
                                                     "; free space there or choose another folder"));
  }
  LYCIA_ASSIGN_OR_RETURN(SafetensorsSummary summary, WriteSafetensors(JoinPath(path, shard.file), sources_));
  shard.bytes = summary.bytes;
  shard.checksum = std::move(summary.checksum);
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    shard.pieces.push_back(
        {piece.name, piece.dtype, piece.logical_shape, piece.begin, piece.end, sources_[i].name, summary.tensor_checksums[i], piece.block});
  }
  return shard;
}

Status CheckpointWriter::Commit(const Attempt& attempt, const std::string& path) {
  Manifest manifest;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    manifest.state = state_;
  }
  LYCIA_ASSIGN_OR_RETURN(manifest.shards, WaitForTables(path));
  LYCIA_RETURN_IF_ERROR(AssembleTensors(manifest.shards).status());
  LYCIA_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(path, kManifestName), ManifestText(manifest)));
  for (int rank = 0; rank < options_.ranks; ++rank) LYCIA_RETURN_IF_ERROR(RemoveTree(path, ShardTableName(rank)));
  LYCIA_RETURN_IF_ERROR(SyncDirectory(path));
  LYCIA_RETURN_IF_ERROR(PublishDirectory(path, CheckpointPath(options_.directory, attempt.step)));
  committed_step_.store(attempt.step, std::memory_order_release);

  // Where a checkpoint of this step existed (a damaged one, or another life of this run), `path` now holds it.
  Status status = RemoveTree(options_.directory, AttemptDirectoryName(attempt));
  if (status.ok()) status = RemoveFailedAttempts(options_.directory, attempt);
  if (status.ok()) status = PruneCheckpoints(options_.directory, attempt.step, options_.keep);
  return Annotate(status, "it is saved, but older files cannot be removed");
}

StatusOr<std::vector<ShardFile>> CheckpointWriter::WaitForTables(const std::string& path) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(options_.peer_timeout_ns);
  auto nap = kFirstNap;
  std::vector<std::optional<ShardFile>> tables(static_cast<std::size_t>(options_.ranks));
  for (int missing = options_.ranks;;) {
    for (int rank = 0; rank < options_.ranks; ++rank) {
      std::optional<ShardFile>& table = tables[static_cast<std::size_t>(rank)];
      if (table) continue;
      const StatusOr<std::string> text = ReadFile(JoinPath(path, ShardTableName(rank)), kMaxManifestBytes, Symlinks::kRefuse);
      if (text.ok()) {
        StatusOr<ShardFile> parsed = ParseShardTable(*text);
        if (!parsed.ok()) return Annotate(parsed.status(), JoinPath(path, ShardTableName(rank)));
        table = *std::move(parsed);
        --missing;
      } else if (!absl::IsNotFound(text.status())) {
        return text.status();
      } else if (const StatusOr<std::string> reason = ReadFile(JoinPath(path, ShardFailureName(rank)), 1 << 20); reason.ok()) {
        return absl::AbortedError(absl::StrCat("rank ", rank, " failed to write its shard", reason->empty() ? "" : ": ", *reason));
      } else if (std::chrono::steady_clock::now() > deadline) {
        return absl::DeadlineExceededError(absl::StrCat("no table of rank ", rank, " in ", path, " after ",
                                                        options_.peer_timeout_ns / 1'000'000,
                                                        " ms; see whether that rank is alive and "
                                                        "writes to the same file system"));
      }
    }
    if (missing == 0) break;
    if (aborted_.load(std::memory_order_acquire)) return absl::AbortedError(absl::StrCat("given up; ", missing, " ranks had not written"));
    std::this_thread::sleep_for(nap);
    nap = std::min(kLongestNap, nap * 2);
  }
  std::vector<ShardFile> shards;
  for (std::optional<ShardFile>& table : tables) shards.push_back(*std::move(table));
  return shards;
}

}  // namespace lycia
