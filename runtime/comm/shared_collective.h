// SharedCollective: sums and gathers among processes that see one memory, without messages. One rank's side, advanced piece by piece.
//
// Every part is cut into pieces of PieceBytes. For piece k a rank
//   publishes: copies piece k of every other rank's part of its operand into the segment,
//   folds:     once all have published, adds piece k of its own part in rank order, into its result and into the segment,
//   takes:     once all have folded, copies piece k of every other part from the segment into its result.
// A reduce-scatter ends with the fold, an all-gather starts with it (a copy), a small all-reduce is published whole and folded by everybody.
// Two pieces are in the segment at a time, so that ranks overlap; a rank never waits, Advance says whether anything could be done.
//
// Bytes moved by an all-reduce of n bytes over q ranks, each rank: n read and n written in its own memory, and 2 n (q-1)/q written into and
// as much read from the segment, which stays in the last-level cache. Reading the peers' own memory instead (process_vm_readv) moves less,
// but pins pages, and was no faster; docs/measurements.md has figures.
#ifndef LYCIA_RUNTIME_COMM_SHARED_COLLECTIVE_H_
#define LYCIA_RUNTIME_COMM_SHARED_COLLECTIVE_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "runtime/comm/collective_call.h"
#include "runtime/core/status.h"

namespace lycia {

class SharedCollective {
 public:
  // Of the segment that `size` ranks need; zeros at first.
  static std::int64_t SegmentBytes(int size);
  // Of a piece of one part, a multiple of 64.
  static std::int64_t PieceBytes(int size);
  // Up to here an all-reduce is published whole.
  static constexpr std::int64_t kWholeBytes = std::int64_t{4} << 10;

  static bool Knows(Operation operation) {
    return operation == Operation::kAllReduce || operation == Operation::kReduceScatter || operation == Operation::kAllGather;
  }

  // segment: the same memory on all ranks, alive as long as this.
  SharedCollective(char* segment, int rank, int size);

  // The next call; the one before is done. The same order on all ranks.
  void Begin(const CollectiveCall& call);
  // Does what can be done without waiting, a piece at most of each kind; true if anything was.
  bool Advance();
  bool done() const { return folded_ == end_ && taken_ == end_; }
  // Internal once another rank is found to be in a different operation or size.
  const Status& status() const { return status_; }

 private:
  struct alignas(64) Counter {
    std::atomic<std::uint64_t> value;
  };
  // Of one rank, in the segment; counted over the life of the segment.
  struct Progress {
    Counter published, folded, taken;
    alignas(64) std::uint64_t calls[2];  // what the last two calls were
  };
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "atomics that are shared between processes must not be locks");

  Progress& progress(int rank) const { return reinterpret_cast<Progress*>(segment_)[rank]; }
  // Piece `at` (counted as in Progress) of rank `from`'s operand for rank `to`; to == from: of its result.
  char* Slot(int from, int to, std::uint64_t at) const;
  Part PartOf(int rank) const;
  std::int64_t BytesOf(int rank, std::uint64_t at) const;  // of the piece
  std::uint64_t Description() const;
  bool AllReached(Counter Progress::*counter, std::uint64_t least) const;
  void CheckPeers();
  void CopyOut(char* to, const char* from, std::int64_t bytes) const;
  bool Publish();
  bool Fold();
  bool Take();

  char* const segment_;
  const int rank_, size_;
  const std::int64_t piece_bytes_;
  std::vector<const void*> sources_;
  Status status_;

  CollectiveCall call_;
  std::int64_t element_ = 1;
  bool whole_ = false;                    // the all-reduce in one piece
  bool publishes_ = false, takes_ = false;
  bool streams_ = false;                  // results are written past the caches
  std::uint64_t calls_ = 0;
  std::uint64_t begin_ = 0, end_ = 0;     // pieces of this call
  std::uint64_t published_ = 0, folded_ = 0, taken_ = 0;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_SHARED_COLLECTIVE_H_
