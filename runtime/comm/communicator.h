// Communicator: what the ranks of one group do together. Four transports keep this contract (threads, MPI, NCCL, dry run), and one
// conformance suite (communicator_conformance.h) holds for all of them.
//
// Every operation is enqueued: it starts after the event given to it and returns the event of its end. The operations of one communicator
// run in the order of their calls, which must be the same on every rank; different communicators and channels advance independently.
// Operands stay untouched by the caller until the returned event is done. A failed peer fails the event of every open operation.
//
// Sums are ours: a left fold in rank order, in the operand's own type (f32 accumulates in f32, f64 in f64), so that a sum is bitwise equal
// on every rank, in every run, over threads and over MPI. NCCL promises repeatability only.
#ifndef LYCIA_RUNTIME_COMM_COMMUNICATOR_H_
#define LYCIA_RUNTIME_COMM_COMMUNICATOR_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "runtime/comm/counters.h"
#include "runtime/comm/fold.h"
#include "runtime/core/status.h"
#include "runtime/core/tensor.h"
#include "runtime/device/event.h"

namespace lycia {

// Travels with every message of a channel.
struct MessageHeader {
  std::int64_t virtual_ns = 0;    // the sender's clock (emulated devices)
  std::uint64_t sequence = 0;     // k-th message of this channel; filled in by the channel, checked by the receiver
  std::int32_t micro_batch = -1;  // checked by the executor: the message it got is the one the schedule promised
  std::int32_t part = 0;
};

// One direction of point-to-point messages between two ranks: FIFO, fixed maximal size, with credits.
// The receiving side owns `credits` slots of memory and has a receive posted for every free one; a send completes once its message has a
// posted receive, so at most `credits` messages wait unread and a sender that runs ahead blocks in its event, never in its call.
class Channel {
 public:
  struct Received {
    Event event;   // done: header and data are valid
    int slot = 0;  // data() until Release(slot)
  };

  virtual ~Channel() = default;
  // Sending side. At most ChannelOptions::send_window sends may be open (their events not done); one more is a broken promise (CHECK).
  virtual Event Send(const ConstTensor& tensor, const Event& after, const MessageHeader& header) = 0;
  // Receiving side: the next message in sequence. At most `credits` received slots are held at a time: CHECK. Release in any order.
  virtual Received Receive() = 0;
  virtual const MessageHeader& header(int slot) const = 0;  // valid once the event is done
  virtual void* data(int slot) const = 0;
  // The slot's data have been read once `after` is done: then its receive is posted again, in the order of the releases.
  virtual void Release(int slot, const Event& after) = 0;
};

struct ChannelOptions {
  int peer = 0;                    // rank in this communicator
  bool sender = false;             // this side sends, or receives
  int lane = 0;                    // 0 to 2046; with (sender, receiver) names the channel; opened again, the k-th opening meets the k-th
  std::int64_t bytes = 0;          // of the largest message
  int credits = 2;                 // receives posted ahead; the same on both sides
  int send_window = 4;             // sends open at once
  void* receive_memory = nullptr;  // credits * padded bytes (ChannelMemoryBytes), from the rank's arena; receiving side only
  Tag tag = Tag::kActivation;
};
std::int64_t ChannelMemoryBytes(std::int64_t bytes, int credits);  // each slot padded to 64 bytes

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string_view transport() const = 0;  // "threads", "mpi", "dry-run"

  // Shard r of `out` is elements [offsets[r], offsets[r+1]); empty offsets: equal shards. `in` is this rank's shard and may be its place in
  // `out` (in place) or apart.
  struct AllGatherArgs {
    ConstTensor in;
    Tensor out;
    std::span<const std::int64_t> offsets = {};  // size() + 1 elements; alive until the event is done
    Tag tag = Tag::kTest;
  };
  virtual Event AllGather(const AllGatherArgs& args, const Event& after) = 0;

  // out (+)= sum over ranks of their shard [offsets[rank], offsets[rank+1]) of `in`. `out` may be that place in `in`.
  struct ReduceScatterArgs {
    ConstTensor in;
    Tensor out;
    std::span<const std::int64_t> offsets = {};
    bool accumulate = false;  // += instead of =
    Tag tag = Tag::kTest;
  };
  virtual Event ReduceScatter(const ReduceScatterArgs& args, const Event& after) = 0;

  // out = sum (or largest) over ranks of in, elementwise (bf16 and f16, added in f32 and rounded once; f32, f64, i64); in place when both
  // are the same memory.
  struct AllReduceArgs {
    ConstTensor in;
    Tensor out;
    Fold fold = Fold::kSum;
    Tag tag = Tag::kTest;
  };
  virtual Event AllReduce(const AllReduceArgs& args, const Event& after) = 0;
  virtual Event Broadcast(const Tensor& tensor, int root, Tag tag, const Event& after) = 0;

  // Elements [send_offsets[r], send_offsets[r+1]) of `in` go to rank r; what rank r sent arrives at [receive_offsets[r], ...) of `out`.
  struct AllToAllVArgs {
    ConstTensor in;
    Tensor out;
    std::span<const std::int64_t> send_offsets;     // size() + 1
    std::span<const std::int64_t> receive_offsets;  // size() + 1
    Tag tag = Tag::kTest;
  };
  virtual Event AllToAllV(const AllToAllVArgs& args, const Event& after) = 0;

  // Both sides of a channel call this; no order between channels is required. Set-up only: allocates.
  virtual StatusOr<std::unique_ptr<Channel>> OpenChannel(const ChannelOptions& options) = 0;

  // Collective over all ranks: those with this rank's color form a new communicator, in rank order. The whole table is given, the same on
  // every rank (checked), so that a dry run knows it too; color -1 joins none and gets nullptr. Set-up only: blocks and allocates.
  virtual StatusOr<std::unique_ptr<Communicator>> Split(std::span<const int> color_of_rank) = 0;

  // Blocks until all ranks have arrived (set-up, checkpoints).
  virtual Status Barrier() = 0;
  // Ends every open and later operation of every rank that shares this transport with `why`. Any thread, once is enough.
  virtual void Abort(const Status& why) = 0;

  virtual const Counters& counters() const = 0;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_COMMUNICATOR_H_
