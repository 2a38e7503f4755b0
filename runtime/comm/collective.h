// CollectiveTask: the collectives of one rank in one communicator, one at a time, as messages between pairs of ranks.
//
// All-gather, all-to-all: each rank sends its part straight to every other. Reduce-scatter: each rank sends part j straight to rank j,
// which folds what arrives in rank order, segment by segment. All-reduce: reduce-scatter of balanced chunks, then all-gather; a small one
// is sent whole to everybody and folded by everybody, one round instead of two. Broadcast: a binomial tree, piece by piece. Sums and gathers
// of processes that share memory need no messages (shared_collective.h).
#ifndef LYCIA_RUNTIME_COMM_COLLECTIVE_H_
#define LYCIA_RUNTIME_COMM_COLLECTIVE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/comm/collective_call.h"
#include "runtime/comm/engine.h"
#include "runtime/comm/shared_collective.h"
#include "runtime/comm/shared_segment.h"

namespace lycia {

// Bytes of one staged message of a sum among `size` ranks; two of them per peer are kept.
std::int64_t SegmentBytes(int size);

class CollectiveTask final : public Task {
 public:
  // ranks[i]: world rank of rank i.
  CollectiveTask(std::vector<int> ranks, int rank, std::int64_t wire_tag);

  // Calling thread. Blocks while kOpenCalls calls are open.
  Event Enqueue(const CollectiveCall& call, const Event& after);
  // From the next call on, sums and gathers go through this memory, which all ranks of the communicator see (all zeros at first). On the
  // communication thread, on all ranks between the same two calls.
  void Share(std::unique_ptr<SharedSegment> segment);

  void Open(Wire& wire) override;
  bool Advance(Wire& wire) override;
  Need need() const override { return announcer_.waiting() ? std::max(need_, Need::kEvent) : need_; }
  void Fail(const Status& status) override;
  void Close(Wire& wire, bool failed) override;

 private:
  static constexpr std::uint64_t kOpenCalls = 512;
  static constexpr int kWindow = 2;  // messages open per peer and direction

  struct Queued {
    CollectiveCall call;
    Event after;
  };
  // One direction between this rank and a peer: a memory cut into pieces, sent or received in order.
  struct Stream {
    Wire::Port* port = nullptr;
    char* memory = nullptr;  // of the whole stream; staging is used instead where sums receive
    std::int64_t bytes = 0;
    std::int64_t posted = 0, done = 0;  // pieces
    std::array<Wire::Request, kWindow> requests;
  };
  struct Peer {
    Stream send, receive;
    char* staging = nullptr;  // [kWindow][SegmentBytes]
  };

  int size() const { return static_cast<int>(ranks_.size()); }
  bool Run(Wire& wire);
  std::int64_t Pieces(std::int64_t bytes) const { return (bytes + piece_bytes_ - 1) / piece_bytes_; }
  std::int64_t PieceBytes(const Stream& stream, std::int64_t piece) const;
  void SetSend(int peer, const void* memory, std::int64_t bytes);
  void SetReceive(int peer, void* memory, std::int64_t bytes);

  void Begin();
  void BeginGather(const char* in, char* out, bool balanced);
  void BeginReduceScatter();
  void BeginAllReduce();
  void BeginBroadcast();
  void BeginAllToAllV();
  void BeginFold(const char* own, char* out, std::int64_t bytes);

  bool Exchange(Wire& wire);
  bool Complete(Stream& stream, bool is_send);
  bool Post(Wire& wire, int peer);
  bool Fold(Wire& wire);
  bool Finished() const;

  const std::vector<int> ranks_;
  const int rank_;
  const std::int64_t wire_tag_;
  std::vector<Peer> peers_;  // by rank; this rank's own is unused
  Buffer staging_;
  Mover* mover_ = nullptr;  // of the wire
  bool lends_ = false;      // likewise

  // From the calling thread to the communication thread.
  std::vector<Queued> queue_;
  std::atomic<std::uint64_t> enqueued_{0};
  std::atomic<std::uint64_t> finished_{0};
  std::atomic<bool> failed_{false};
  HostEventSource source_;
  Announcer announcer_{&source_};

  // The call under way.
  bool active_ = false;
  Need need_ = Need::kNothing;
  CollectiveCall call_;
  std::int64_t piece_bytes_ = 1;
  bool gather_follows_ = false;
  std::unique_ptr<SharedSegment> segment_;
  std::unique_ptr<SharedCollective> shared_;  // null: by messages
  bool in_memory_ = false;                    // the call under way is shared_'s
  int source_peer_ = -1;  // broadcast: pieces are passed on once they came from here
  // Sums: pieces of this rank's part.
  const char* own_ = nullptr;
  char* fold_out_ = nullptr;
  std::int64_t fold_bytes_ = 0, folded_ = 0;  // bytes; pieces
  bool folding_ = false, fold_after_sends_ = false;
  std::vector<const void*> fold_sources_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_COLLECTIVE_H_
