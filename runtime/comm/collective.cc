#include "runtime/comm/collective.h"

#include <sched.h>

#include <algorithm>

#include "runtime/comm/fold.h"

namespace lycia {
namespace {

// A piece is what the communication thread copies before it looks after its other tasks.
constexpr std::int64_t kPieceBytes = std::int64_t{1} << 20;
constexpr std::int64_t kLargestSegment = std::int64_t{256} << 10;
constexpr std::int64_t kSmallestSegment = std::int64_t{16} << 10;
constexpr std::int64_t kStagingBytes = std::int64_t{2} << 20;
// Up to here an all-reduce takes one round: the second would cost more than the bytes it saves.
constexpr std::int64_t kOneRoundBytes = kSmallestSegment;

}  // namespace

std::int64_t SegmentBytes(int size) {
  if (size < 2) return kLargestSegment;
  return std::clamp(kStagingBytes / (2 * (size - 1)) / 64 * 64, kSmallestSegment, kLargestSegment);
}

CollectiveTask::CollectiveTask(std::vector<int> ranks, int rank, std::int64_t wire_tag)
    : ranks_(std::move(ranks)), rank_(rank), wire_tag_(wire_tag), peers_(ranks_.size()), queue_(kOpenCalls), fold_sources_(ranks_.size()) {
}

Event CollectiveTask::Enqueue(const CollectiveCall& call, const Event& after) {
  const std::uint64_t ticket = enqueued_.load(std::memory_order_relaxed) + 1;
  while (ticket - finished_.load(std::memory_order_acquire) > kOpenCalls && !failed_.load(std::memory_order_acquire)) ::sched_yield();
  if (!failed_.load(std::memory_order_acquire)) queue_[(ticket - 1) % kOpenCalls] = {call, after};
  enqueued_.store(ticket, std::memory_order_release);
  return {&source_, ticket};
}

void CollectiveTask::Share(std::unique_ptr<SharedSegment> segment) {
  segment_ = std::move(segment);
  shared_ = std::make_unique<SharedCollective>(segment_->data(), rank_, size());
}

void CollectiveTask::Open(Wire& wire) {
  mover_ = &wire.mover();
  lends_ = wire.lends();
  if (size() > 1) {
    const std::int64_t each = kWindow * SegmentBytes(size());
    StatusOr<Buffer> staging = mover_->Allocate(each * size());
    if (!staging.ok()) {
      status = staging.status();
      return;
    }
    staging_ = *std::move(staging);
    for (int r = 0; r < size(); ++r) peers_[static_cast<std::size_t>(r)].staging = static_cast<char*>(staging_.data()) + each * r;
  }
  for (int r = 0; r < size(); ++r) {
    if (r == rank_) continue;
    const int self = ranks_[static_cast<std::size_t>(rank_)], peer = ranks_[static_cast<std::size_t>(r)];
    peers_[static_cast<std::size_t>(r)].send.port = wire.Open({self, peer, wire_tag_}, kWindow);
    peers_[static_cast<std::size_t>(r)].receive.port = wire.Open({peer, self, wire_tag_}, kWindow);
  }
}

void CollectiveTask::Close(Wire& wire, bool failed) {
  for (Peer& peer : peers_) {
    for (Stream* stream : {&peer.send, &peer.receive}) {
      if (stream->port == nullptr) continue;
      for (Wire::Request& request : stream->requests) {
        if (!failed && (!request.done || request.partner != nullptr)) wire.Cancel(&request);
      }
      if (!failed) wire.Close(stream->port);
    }
  }
  mover_->Settle();
}

void CollectiveTask::Fail(const Status& status) {
  failed_.store(true, std::memory_order_release);
  source_.Fail(status);
}

bool CollectiveTask::Advance(Wire& wire) {
  if (!status.ok()) return false;
  const bool moved = Run(wire);
  return announcer_.Advance(finished_.load(std::memory_order_relaxed), *mover_) || moved;
}

// One step of the call under way, or the start of the next one.
bool CollectiveTask::Run(Wire& wire) {
  const std::uint64_t finished = finished_.load(std::memory_order_relaxed);
  bool moved = false;
  if (!active_) {
    need_ = Need::kNothing;
    if (enqueued_.load(std::memory_order_acquire) == finished) return false;
    const Queued& next = queue_[finished % kOpenCalls];
    need_ = Need::kEvent;
    if (!next.after.Done()) return false;
    call_ = next.call;
    in_memory_ = shared_ != nullptr && SharedCollective::Knows(call_.operation);
    if (in_memory_) {
      shared_->Begin(call_);
    } else {
      Begin();
    }
    active_ = moved = true;
    need_ = in_memory_ ? Need::kPeer : Need::kMessage;
  }
  moved |= in_memory_ ? shared_->Advance() : Exchange(wire);
  if (in_memory_ && !shared_->status().ok()) status = shared_->status();
  if (!(in_memory_ ? shared_->done() : Finished())) return moved;
  if (!in_memory_ && gather_follows_) {
    BeginGather(static_cast<char*>(call_.out) + BalancedPart(call_.elements, size(), rank_).offset * SizeOf(call_.dtype),
                static_cast<char*>(call_.out), /*balanced=*/true);
    return true;
  }
  active_ = false;
  finished_.store(finished + 1, std::memory_order_release);
  return true;
}

// ---- What is sent where ----

void CollectiveTask::SetSend(int peer, const void* memory, std::int64_t bytes) {
  Stream& stream = peers_[static_cast<std::size_t>(peer)].send;
  stream.memory = static_cast<char*>(const_cast<void*>(memory));
  stream.bytes = bytes;
  stream.posted = stream.done = 0;
}

void CollectiveTask::SetReceive(int peer, void* memory, std::int64_t bytes) {
  Stream& stream = peers_[static_cast<std::size_t>(peer)].receive;
  stream.memory = static_cast<char*>(memory);
  stream.bytes = bytes;
  stream.posted = stream.done = 0;
}

void CollectiveTask::Begin() {
  gather_follows_ = folding_ = false;
  source_peer_ = -1;
  piece_bytes_ = std::max(kPieceBytes, mover_->piece_bytes());
  for (int r = 0; r < size(); ++r) {
    SetSend(r, nullptr, 0);
    SetReceive(r, nullptr, 0);
  }
  switch (call_.operation) {
    case Operation::kAllGather: return BeginGather(static_cast<const char*>(call_.in), static_cast<char*>(call_.out), /*balanced=*/false);
    case Operation::kReduceScatter: return BeginReduceScatter();
    case Operation::kAllReduce: return BeginAllReduce();
    case Operation::kBroadcast: return BeginBroadcast();
    case Operation::kAllToAllV: return BeginAllToAllV();
    default: LYCIA_CHECK(false) << "operation " << Name(call_.operation) << " is not a collective ";
  }
}

void CollectiveTask::BeginGather(const char* in, char* out, bool balanced) {
  gather_follows_ = folding_ = false;
  piece_bytes_ = std::max(kPieceBytes, mover_->piece_bytes());
  const std::int64_t element = SizeOf(call_.dtype);
  for (int r = 0; r < size(); ++r) {
    const Part own = balanced ? BalancedPart(call_.elements, size(), rank_) : ShardPart(call_.offsets, call_.elements, size(), rank_);
    const Part part = balanced ? BalancedPart(call_.elements, size(), r) : ShardPart(call_.offsets, call_.elements, size(), r);
    if (r != rank_) {
      SetSend(r, in, own.elements * element);
      SetReceive(r, out + part.offset * element, part.elements * element);
    } else if (in != out + own.offset * element && own.elements > 0) {
      mover_->Copy(out + own.offset * element, in, own.elements * element);
    }
  }
}

// Every rank receives its own part of every peer's `in` and folds them with its own.
void CollectiveTask::BeginFold(const char* own, char* out, std::int64_t bytes) {
  folding_ = true;
  fold_after_sends_ = false;
  piece_bytes_ = lends_ ? std::max(SegmentBytes(size()), mover_->piece_bytes()) : SegmentBytes(size());
  own_ = own;
  fold_out_ = out;
  fold_bytes_ = bytes;
  folded_ = 0;
  for (int r = 0; r < size(); ++r) {
    if (r != rank_) SetReceive(r, nullptr, bytes);
  }
}

void CollectiveTask::BeginReduceScatter() {
  const std::int64_t element = SizeOf(call_.dtype);
  const char* in = static_cast<const char*>(call_.in);
  const Part own = ShardPart(call_.offsets, call_.elements, size(), rank_);
  BeginFold(in + own.offset * element, static_cast<char*>(call_.out), own.elements * element);
  for (int r = 0; r < size(); ++r) {
    const Part part = ShardPart(call_.offsets, call_.elements, size(), r);
    if (r != rank_) SetSend(r, in + part.offset * element, part.elements * element);
  }
}

void CollectiveTask::BeginAllReduce() {
  const std::int64_t element = SizeOf(call_.dtype), bytes = call_.elements * element;
  const char* in = static_cast<const char*>(call_.in);
  char* out = static_cast<char*>(call_.out);
  if (bytes <= kOneRoundBytes) {
    BeginFold(in, out, bytes);
    fold_after_sends_ = true;  // in place, the fold overwrites what is being sent
    for (int r = 0; r < size(); ++r) {
      if (r != rank_) SetSend(r, in, bytes);
    }
    return;
  }
  const Part own = BalancedPart(call_.elements, size(), rank_);
  BeginFold(in + own.offset * element, out + own.offset * element, own.elements * element);
  for (int r = 0; r < size(); ++r) {
    const Part part = BalancedPart(call_.elements, size(), r);
    if (r != rank_) SetSend(r, in + part.offset * element, part.elements * element);
  }
  gather_follows_ = true;
}

// Relative to the root, rank v receives from v without its lowest bit and sends to v + b for all lower bits b.
void CollectiveTask::BeginBroadcast() {
  const int relative = (rank_ - call_.root + size()) % size();
  const std::int64_t bytes = call_.elements * SizeOf(call_.dtype);
  for (int bit = 1; bit < size(); bit <<= 1) {
    if (relative & bit) {
      source_peer_ = (relative - bit + call_.root) % size();
      SetReceive(source_peer_, call_.out, bytes);
      break;
    }
    if (relative + bit < size()) SetSend((relative + bit + call_.root) % size(), call_.out, bytes);
  }
}

void CollectiveTask::BeginAllToAllV() {
  const std::int64_t element = SizeOf(call_.dtype);
  for (int r = 0; r < size(); ++r) {
    const Part sent = ShardPart(call_.offsets, 0, size(), r), received = ShardPart(call_.receive_offsets, 0, size(), r);
    const char* from = static_cast<const char*>(call_.in) + sent.offset * element;
    char* to = static_cast<char*>(call_.out) + received.offset * element;
    if (r != rank_) {
      SetSend(r, from, sent.elements * element);
      SetReceive(r, to, received.elements * element);
    } else if (sent.elements > 0) {
      mover_->Copy(to, from, sent.elements * element);
    }
  }
}

}  // namespace lycia
