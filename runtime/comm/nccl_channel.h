// Channels over NCCL. Payloads from one rank to another go through one lane of the two, whatever their channels, in the order of the sends.
// Before each goes a frame, by the control world: whose message it is and how long. A receive is posted once its frame is there and a slot
// is free, asked for or not, so that none waits on the device for a message that has not been sent.
#ifndef LYCIA_RUNTIME_COMM_NCCL_CHANNEL_H_
#define LYCIA_RUNTIME_COMM_NCCL_CHANNEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/comm/communicator.h"
#include "runtime/comm/nccl_issuer.h"
#include "runtime/comm/nccl_rank.h"

namespace lycia::nccl {

// The receiving end: slots and their bookkeeping, as the calling and the issuing thread see it.
class ReceivingEnd {
 public:
  ReceivingEnd(const ChannelOptions& options, int generation);
  // Memory where the options give none: page-locked.
  Status Open(Device& device);

  // Calling thread.
  Channel::Received Receive();
  void Release(int slot, const Event& after);
  const MessageHeader& header(int slot) const { return headers_[static_cast<std::size_t>(slot)]; }
  void* data(int slot) const { return memory_ + slot * slot_bytes_; }

  // Issuing thread. The next message's slot, which it may be written to after `after`: false while it is held or being read by the host.
  bool SlotFor(int* slot, Event* after) const;
  bool asked_for() const { return asked_.load(std::memory_order_acquire) > arrived_; }
  std::uint64_t arrived() const { return arrived_; }
  void Arrive(int slot, const MessageHeader& header);

  const ChannelOptions options;
  const int generation;
  LaunchedEvents events;  // of its messages

 private:
  struct Freed {
    int slot = 0;
    Event after;
  };
  const std::int64_t slot_bytes_;
  Buffer owned_;
  char* memory_ = nullptr;
  std::vector<MessageHeader> headers_;  // by slot
  std::vector<Freed> freed_;            // ring: who takes message k is the k-th to be freed, first all slots in order
  std::atomic<std::uint64_t> freed_count_{0};
  std::atomic<std::uint64_t> asked_{0};
  std::uint64_t arrived_ = 0;
};

// Messages of this rank to a peer.
class OutwardLink final : public LaneUser {
 public:
  // frames: kFrameBytes a message, LaunchedEvents::kRing of them open at once.
  OutwardLink(std::shared_ptr<RankState> rank, std::unique_ptr<Lane> lane, std::unique_ptr<Channel> frames, int peer);
  ~OutwardLink() override;
  Status Open();
  Lane& lane() { return *lane_; }

  bool Ready(const Call& call) override;
  std::int64_t StepsOf(const Call&) override { return 1; }
  Status Issue(const Call& call, std::int64_t step) override;
  Status Finish(const Call&, std::int64_t) override { return OkStatus(); }
  bool HostDone() override { return true; }
  std::string ToString(const Call& call) const override;

 private:
  std::size_t Slot() const {
    return static_cast<std::size_t>((lane_->events.recorded() + 1) % LaunchedEvents::kRing);
  }  // of the next message

  const std::shared_ptr<RankState> rank_;
  const std::unique_ptr<Lane> lane_;  // rank 0 of two sends
  const int peer_;                    // in the communicator, for messages
  std::vector<Frame> frames_;         // ring, by ticket
  std::vector<Event> frames_sent_;
  Buffer nothing_;                          // what a message of no bytes sends
  const std::unique_ptr<Channel> channel_;  // of frames
};

// Messages of a peer to this rank.
class InwardLink final : public Watched {
 public:
  InwardLink(std::shared_ptr<RankState> rank, std::unique_ptr<Lane> lane, std::unique_ptr<Channel> frames, int peer);
  ~InwardLink() override;
  Status Open();
  Lane& lane() { return *lane_; }
  void Add(ReceivingEnd* end) { ends_.push_back(end); }
  void Remove(ReceivingEnd* end);

  StatusOr<bool> Advance() override;
  Need need() const override;
  Status Check() override;
  void Fail(const Status& status) override;

 private:
  enum class State { kIdle, kFrameThere, kPayloadCalled };

  StatusOr<bool> TakeSlot();

  const std::shared_ptr<RankState> rank_;
  const std::unique_ptr<Lane> lane_;
  const int peer_;
  std::vector<ReceivingEnd*> ends_;
  const std::unique_ptr<Channel> channel_;  // of frames
  Channel::Received next_;                  // frame
  Frame frame_;
  Buffer nothing_;
  State state_ = State::kIdle;
  ReceivingEnd* end_ = nullptr;  // of the message under way; null: closed meanwhile
  int slot_ = 0;
};

// A channel of a rank with itself: device copies, no NCCL.
class SelfPipe final : public Watched {
 public:
  explicit SelfPipe(std::shared_ptr<RankState> rank) : rank_(std::move(rank)) {}
  ~SelfPipe() override;
  Status Open();
  StatusOr<bool> Advance() override;
  Need need() const override { return sent_ < asked_.load(std::memory_order_relaxed) ? Need::kEvent : Need::kNothing; }
  Status Check() override { return OkStatus(); }
  void Fail(const Status& status) override;

  struct Sent {
    const void* data = nullptr;
    Frame frame;
    Event after;
  };
  void SetWindow(int window) { sends_.resize(static_cast<std::size_t>(window)); }  // before the first send
  void Send(const Sent& sent);
  Event EventOf(std::uint64_t message) { return {&events_, message + 1}; }
  std::uint64_t asked() const { return asked_.load(std::memory_order_relaxed); }
  void SetEnd(ReceivingEnd* end) { end_ = end; }  // issuing thread

 private:
  const std::shared_ptr<RankState> rank_;
  std::unique_ptr<Stream> stream_;
  LaunchedEvents events_;  // of the sending end
  std::vector<Sent> sends_;
  std::atomic<std::uint64_t> asked_{0};
  std::uint64_t sent_ = 0;
  ReceivingEnd* end_ = nullptr;
};

struct ChannelArgs {
  std::shared_ptr<RankState> rank;
  std::shared_ptr<Counters> counters;
  ChannelOptions options;
  int generation = 0;
  std::string name;  // for messages
};
std::unique_ptr<Channel> OpenSender(const ChannelArgs& args, std::shared_ptr<OutwardLink> link);
StatusOr<std::unique_ptr<Channel>> OpenReceiver(const ChannelArgs& args, std::shared_ptr<InwardLink> link);
std::unique_ptr<Channel> OpenSelfSender(const ChannelArgs& args, std::shared_ptr<SelfPipe> pipe);
StatusOr<std::unique_ptr<Channel>> OpenSelfReceiver(const ChannelArgs& args, std::shared_ptr<SelfPipe> pipe);

}  // namespace lycia::nccl

#endif  // LYCIA_RUNTIME_COMM_NCCL_CHANNEL_H_
