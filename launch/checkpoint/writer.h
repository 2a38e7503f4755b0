// CheckpointWriter: saves while training goes on. Save copies this rank's pieces to a staging buffer and returns; a thread of the writer's
// own writes, checks and commits them.
//
// The protocol between ranks is the file system alone, so the thread needs no communicator (names.h shows the files):
//   every rank   writes its shard into the attempt's folder, syncs it, then leaves its table of pieces beside it;
//   rank 0       waits for all tables, checks that the pieces make up whole tensors, writes the manifest, syncs the folder, gives it its
//                final name, syncs the parent; then removes checkpoints beyond the newest `keep`.
// A process killed at any instant leaves the earlier checkpoints as they were, and at most a folder *.tmp that the next start removes.
#ifndef LYCIA_LAUNCH_CHECKPOINT_WRITER_H_
#define LYCIA_LAUNCH_CHECKPOINT_WRITER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "launch/checkpoint/manifest.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/piece.h"
#include "runtime/core/status.h"
#include "runtime/device/device.h"
#include "runtime/device/event.h"
#include "runtime/io/safetensors.h"

namespace lycia {

// Bytes of the staging buffer these pieces need, for the arena's plan (host or pinned memory).
std::int64_t StagingBytes(absl::Span<const Piece> pieces);

class CheckpointWriter {
 public:
  struct Options {
    std::string directory;  // "<run>/checkpoints"; made if missing; the same file system on all ranks
    std::string run;        // Attempt::run: the same on all ranks, new at every start
    int rank = 0;
    int ranks = 1;
    int keep = 2;                                    // newest checkpoints that stay, >= 1
    std::int64_t peer_timeout_ns = 300'000'000'000;  // how long rank 0 waits for the tables of the others
    CheckpointState like;  // as large as any state to be saved: later Saves then allocate nothing on the caller's thread
  };

  // `staging` holds StagingBytes(pieces) bytes and, like the pieces' data, outlives the writer. InvalidArgument for pieces that no file can
  // hold. Rank 0 calls RemoveStaleAttempts before any rank saves.
  static StatusOr<std::unique_ptr<CheckpointWriter>> Create(const Options& options, std::vector<Piece> pieces, void* staging);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  // Finishes a save under way, unless Abort was called.
  ~CheckpointWriter();

  // All ranks call it with the same state, in the same order. Waits (under the stream's guard) for the save before, then copies. An error
  // is the guard's or the stream's; how the save itself ends is told by Wait, on each rank for its own part.
  Status Save(const CheckpointState& state, Stream& stream);
  bool busy() const { return !done_.Done(saves_); }
  // Until the last save has ended; the first failure since the last call of Wait. On rank 0 OK means that the checkpoint is committed.
  Status Wait(WaitGuard* guard = nullptr);
  // Rank 0: step of the newest checkpoint it committed; -1 before.
  std::int64_t committed_step() const { return committed_step_.load(std::memory_order_acquire); }
  int failures_in_a_row() const { return failures_in_a_row_.load(std::memory_order_acquire); }
  // Any thread: rank 0 stops waiting for the others, whose end is near.
  void Abort() { aborted_.store(true, std::memory_order_release); }

 private:
  CheckpointWriter(const Options& options, std::vector<Piece> pieces, void* staging);
  void Run();
  Status WriteAndCommit(const Attempt& attempt);
  StatusOr<ShardFile> WriteShard(const std::string& path) const;
  Status Commit(const Attempt& attempt, const std::string& path);
  StatusOr<std::vector<ShardFile>> WaitForTables(const std::string& path) const;

  const Options options_;
  const std::vector<Piece> pieces_;
  char* const staging_;
  std::vector<TensorSource> sources_;  // of the shard; data in staging_
  std::atomic<bool> aborted_{false};
  std::atomic<std::int64_t> committed_step_{-1};
  std::atomic<int> failures_in_a_row_{0};
  HostEventSource done_;     // ticket k: save k has ended
  std::uint64_t saves_ = 0;  // begun; the caller's thread only

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::uint64_t requested_ = 0;
  bool stopping_ = false;
  CheckpointState state_;  // of save requested_; unchanged until it has ended
  Status failure_;
  std::thread thread_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_WRITER_H_
