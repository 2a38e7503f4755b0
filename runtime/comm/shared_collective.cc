#include "runtime/comm/shared_collective.h"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr int kPieces = 2;  // in the segment at a time
// Pieces must be large, as ranks meet twice for each, and all of a rank's must stay in a share of the last-level cache.
constexpr std::int64_t kRankBytes = std::int64_t{2} << 20;
// Many ranks meet in smaller pieces: a segment is there at once and whole.
constexpr std::int64_t kGroupBytes = std::int64_t{16} << 20;
// A sum goes to two places: in blocks that are still in the first-level cache when they are copied.
constexpr std::int64_t kFoldBlockBytes = std::int64_t{16} << 10;
// A result of this size that is not in the caches is written past them, which spares reading it first. In place it is there: it has just
// been read.
constexpr std::int64_t kStreamBytes = std::int64_t{4} << 20;

// memcpy, with stores past the caches; their order with others is made by a fence.
void Stream(char* to, const char* from, std::int64_t bytes) {
  constexpr std::int64_t kLine = 64;
  const std::int64_t head = std::min<std::int64_t>(bytes, static_cast<std::int64_t>(-reinterpret_cast<std::uintptr_t>(to) % kLine));
  std::memcpy(to, from, static_cast<std::size_t>(head));
  std::int64_t at = head;
  for (; at + kLine <= bytes; at += kLine) {
    const auto* source = reinterpret_cast<const __m128i*>(from + at);
    auto* target = reinterpret_cast<__m128i*>(to + at);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1), c = _mm_loadu_si128(source + 2),
                  d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  std::memcpy(to + at, from + at, static_cast<std::size_t>(bytes - at));
  _mm_sfence();
}

}  // namespace

std::int64_t SharedCollective::PieceBytes(int size) {
  const std::int64_t peers = std::max(2, size);
  return std::max(kWholeBytes, std::min(kRankBytes, kGroupBytes / peers) / (kPieces * peers) / 64 * 64);
}

std::int64_t SharedCollective::SegmentBytes(int size) {
  return size * (static_cast<std::int64_t>(sizeof(Progress)) + kPieces * size * PieceBytes(size));
}

SharedCollective::SharedCollective(char* segment, int rank, int size)
    : segment_(segment), rank_(rank), size_(size), piece_bytes_(PieceBytes(size)), sources_(static_cast<std::size_t>(size)) {}

char* SharedCollective::Slot(int from, int to, std::uint64_t at) const {
  char* pieces = segment_ + size_ * static_cast<std::int64_t>(sizeof(Progress));
  return pieces + ((static_cast<std::int64_t>(from) * size_ + to) * kPieces + static_cast<std::int64_t>(at % kPieces)) * piece_bytes_;
}

Part SharedCollective::PartOf(int rank) const {
  if (whole_) return {0, call_.elements};
  if (call_.operation == Operation::kAllReduce) return BalancedPart(call_.elements, size_, rank);
  return ShardPart(call_.offsets, call_.elements, size_, rank);
}

std::int64_t SharedCollective::BytesOf(int rank, std::uint64_t at) const {
  const std::int64_t begin = static_cast<std::int64_t>(at - begin_) * piece_bytes_;
  return std::clamp<std::int64_t>(PartOf(rank).elements * element_ - begin, 0, piece_bytes_);
}

std::uint64_t SharedCollective::Description() const {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a, 64 bits
  for (const std::uint64_t value :
       {static_cast<std::uint64_t>(call_.operation), static_cast<std::uint64_t>(call_.dtype), static_cast<std::uint64_t>(call_.elements),
        calls_, end_ - begin_, static_cast<std::uint64_t>(call_.fold)}) {
    hash = (hash ^ value) * 1099511628211u;
  }
  return hash;
}

void SharedCollective::Begin(const CollectiveCall& call) {
  LYCIA_CHECK(Knows(call.operation)) << Name(call.operation) << " is not made in shared memory ";
  call_ = call;
  ++calls_;
  element_ = SizeOf(call.dtype);
  whole_ = call.operation == Operation::kAllReduce && call.elements * element_ <= kWholeBytes;
  publishes_ = call.operation != Operation::kAllGather;
  takes_ = call.operation != Operation::kReduceScatter && !whole_;
  streams_ = takes_ && call.elements * element_ >= kStreamBytes && (call.operation == Operation::kAllGather || call.in != call.out);
  std::int64_t longest = 0;
  for (int r = 0; r < size_; ++r) longest = std::max(longest, PartOf(r).elements * element_);
  // A call without elements is one piece of nothing: ranks meet in it as in every other.
  begin_ = end_;
  end_ = begin_ + static_cast<std::uint64_t>(std::max<std::int64_t>(1, (longest + piece_bytes_ - 1) / piece_bytes_));
  published_ = folded_ = taken_ = begin_;
}

bool SharedCollective::Advance() {
  bool moved = false;
  moved |= Publish();
  moved |= Fold();
  moved |= Take();
  return moved;
}

void SharedCollective::CopyOut(char* to, const char* from, std::int64_t bytes) const {
  if (streams_) return Stream(to, from, bytes);
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

bool SharedCollective::AllReached(Counter Progress::*counter, std::uint64_t least) const {
  for (int r = 0; r < size_; ++r) {
    if (r != rank_ && (progress(r).*counter).value.load(std::memory_order_acquire) < least) return false;
  }
  return true;
}

// Of the ranks whose first piece has been seen.
void SharedCollective::CheckPeers() {
  const std::uint64_t own = Description();
  for (int r = 0; r < size_; ++r) {
    if (r != rank_ && progress(r).calls[calls_ % 2] != own && status_.ok()) {
      status_ = absl::InternalError(absl::StrCat("rank ", rank_, " finds rank ", r, " of its group in another operation than its own ",
                                                 std::string(Name(call_.operation)), " of ", call_.elements,
                                                 " elements: the ranks disagree on the operation or its size"));
    }
  }
}

bool SharedCollective::Publish() {
  if (published_ == end_) return false;
  Progress& own = progress(rank_);
  // A slot is free once everybody has folded what was in it; the one of results, where the whole goes, once everybody has taken it. So
  // nobody gets two calls ahead of what `calls` remembers.
  if (published_ >= kPieces && !AllReached(whole_ ? &Progress::taken : &Progress::folded, published_ - kPieces + 1)) return false;
  if (published_ == begin_) own.calls[calls_ % 2] = Description();
  if (publishes_ && whole_) {
    if (call_.elements > 0) std::memcpy(Slot(rank_, rank_, published_), call_.in, static_cast<std::size_t>(call_.elements * element_));
  } else if (publishes_) {
    const char* in = static_cast<const char*>(call_.in);
    const std::int64_t begin = static_cast<std::int64_t>(published_ - begin_) * piece_bytes_;
    for (int r = 0; r < size_; ++r) {
      const std::int64_t bytes = r == rank_ ? 0 : BytesOf(r, published_);
      if (bytes > 0) {
        std::memcpy(Slot(rank_, r, published_), in + PartOf(r).offset * element_ + begin, static_cast<std::size_t>(bytes));
      }
    }
  }
  own.published.value.store(++published_, std::memory_order_release);
  return true;
}

// An all-gather's fold copies.
bool SharedCollective::Fold() {
  if (folded_ == published_) return false;
  if (!AllReached(&Progress::published, folded_ + 1)) return false;
  // The slot of the result is free once everybody has taken what was in it.
  if (folded_ >= kPieces && !AllReached(&Progress::taken, folded_ - kPieces + 1)) return false;
  if (folded_ == begin_) CheckPeers();
  if (!status_.ok()) return false;
  const std::int64_t begin = static_cast<std::int64_t>(folded_ - begin_) * piece_bytes_, bytes = BytesOf(rank_, folded_);
  const std::int64_t offset = PartOf(rank_).offset * element_ + begin;
  char* result = Slot(rank_, rank_, folded_);
  if (call_.operation == Operation::kAllGather) {
    // `in` is the shard alone.
    const char* in = static_cast<const char*>(call_.in) + begin;
    char* out = static_cast<char*>(call_.out) + offset;
    if (bytes > 0) std::memcpy(result, in, static_cast<std::size_t>(bytes));
    if (bytes > 0 && out != in) CopyOut(out, in, bytes);
  } else {
    const char* in = static_cast<const char*>(call_.in) + offset;
    char* out = static_cast<char*>(call_.out) + (call_.operation == Operation::kReduceScatter ? begin : offset);
    for (std::int64_t at = 0; at < bytes; at += kFoldBlockBytes) {
      const std::int64_t block = std::min(kFoldBlockBytes, bytes - at);
      for (int r = 0; r < size_; ++r) {
        sources_[static_cast<std::size_t>(r)] = r == rank_ ? in + at : Slot(r, whole_ ? r : rank_, folded_) + at;
      }
      LeftFold(call_.dtype, sources_, block / element_, call_.fold, call_.accumulate, (takes_ ? result : out) + at);
      if (takes_) CopyOut(out + at, result + at, block);
    }
  }
  ++folded_;
  // What nobody will take is free at once; before `folded`, which says so to those who take.
  if (!takes_) {
    taken_ = folded_;
    progress(rank_).taken.value.store(taken_, std::memory_order_release);
  }
  progress(rank_).folded.value.store(folded_, std::memory_order_release);
  return true;
}

bool SharedCollective::Take() {
  if (!takes_ || taken_ == folded_) return false;
  if (!AllReached(&Progress::folded, taken_ + 1)) return false;
  const std::int64_t begin = static_cast<std::int64_t>(taken_ - begin_) * piece_bytes_;
  for (int r = 0; r < size_; ++r) {
    const std::int64_t bytes = r == rank_ ? 0 : BytesOf(r, taken_);
    if (bytes == 0) continue;
    CopyOut(static_cast<char*>(call_.out) + PartOf(r).offset * element_ + begin, Slot(r, r, taken_), bytes);
  }
  progress(rank_).taken.value.store(++taken_, std::memory_order_release);
  return true;
}

}  // namespace lycia
