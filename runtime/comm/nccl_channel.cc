#include "runtime/comm/nccl_channel.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/comm/nccl_error.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::nccl {
namespace {

cudaStream_t StreamOf(Lane& lane) { return cuda::TargetOf(*lane.stream).stream; }

}  // namespace

// ---- The receiving end ----

ReceivingEnd::ReceivingEnd(const ChannelOptions& channel, int k)
    : options(channel),
      generation(k),
      slot_bytes_(ChannelMemoryBytes(channel.bytes, 1)),
      headers_(static_cast<std::size_t>(channel.credits)),
      freed_(static_cast<std::size_t>(channel.credits)) {
  for (int slot = 0; slot < channel.credits; ++slot) freed_[static_cast<std::size_t>(slot)].slot = slot;
  freed_count_.store(freed_.size());
}

Status ReceivingEnd::Open(Device& device) {
  LYCIA_RETURN_IF_ERROR(events.Create());
  memory_ = static_cast<char*>(options.receive_memory);
  if (memory_ != nullptr || slot_bytes_ == 0) return OkStatus();
  LYCIA_ASSIGN_OR_RETURN(owned_, device.Allocate(slot_bytes_ * options.credits, MemoryKind::kPinned));
  memory_ = static_cast<char*>(owned_.data());
  return OkStatus();
}

Channel::Received ReceivingEnd::Receive() {
  const std::uint64_t message = asked_.load(std::memory_order_relaxed), slots = freed_.size();
  LYCIA_CHECK_LT(message, freed_count_.load(std::memory_order_relaxed))
      << "channel " << options.lane << " from rank " << options.peer << ": every slot is held; Release one before Receive ";
  const int slot = freed_[message % slots].slot;
  asked_.store(message + 1, std::memory_order_release);
  return {{&events, message + 1}, slot};
}

void ReceivingEnd::Release(int slot, const Event& after) {
  const std::uint64_t count = freed_count_.load(std::memory_order_relaxed), slots = freed_.size();
  LYCIA_CHECK(slot >= 0 && slot < options.credits) << "channel " << options.lane << ": no slot " << slot << " ";
  LYCIA_CHECK_LT(count - slots, asked_.load(std::memory_order_relaxed)) << "channel " << options.lane << ": nothing to release ";
  freed_[count % slots] = {slot, after};
  freed_count_.store(count + 1, std::memory_order_release);
}

bool ReceivingEnd::SlotFor(int* slot, Event* after) const {
  if (arrived_ >= freed_count_.load(std::memory_order_acquire) || !events.HasRoom()) return false;
  const Freed& freed = freed_[arrived_ % freed_.size()];
  if (!CanBeEnqueued(freed.after)) return false;
  *slot = freed.slot;
  *after = freed.after;
  return true;
}

void ReceivingEnd::Arrive(int slot, const MessageHeader& header) {
  headers_[static_cast<std::size_t>(slot)] = header;
  ++arrived_;
  events.Announce();
}

// ---- To a peer ----

OutwardLink::OutwardLink(std::shared_ptr<RankState> rank, std::unique_ptr<Lane> lane, std::unique_ptr<Channel> frames, int peer)
    : rank_(std::move(rank)),
      lane_(std::move(lane)),
      peer_(peer),
      frames_(LaunchedEvents::kRing),
      frames_sent_(frames_.size()),
      channel_(std::move(frames)) {}

OutwardLink::~OutwardLink() {
  rank_->engine->Do([this](Wire&) { rank_->issuer.Remove(lane_.get()); });
}

Status OutwardLink::Open() {
  LYCIA_ASSIGN_OR_RETURN(nothing_, rank_->device->Allocate(1, MemoryKind::kDevice));
  return OkStatus();
}

bool OutwardLink::Ready(const Call&) { return frames_sent_[Slot()].Done(); }

Status OutwardLink::Issue(const Call& call, std::int64_t) {
  constexpr int kReceiver = 1;
  Frame& frame = frames_[Slot()];
  frame = call.frame;
  frames_sent_[Slot()] = channel_->Send({&frame, DType::kU8, {sizeof(Frame)}}, {}, {});
  const std::int64_t bytes = call.frame.payload_bytes;
  return LYCIA_NCCL_STATUS(lane_->comm,
                           ncclSend(bytes > 0 ? call.data : nothing_.data(), static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)),
                                    ncclUint8, kReceiver, lane_->comm, StreamOf(*lane_)),
                           ToString(call));
}

std::string OutwardLink::ToString(const Call& call) const {
  return StrCat("message ", call.frame.header.sequence, " of ", call.frame.payload_bytes, " bytes to rank ", peer_, ", channel ",
                call.frame.lane);
}

// ---- From a peer ----

InwardLink::InwardLink(std::shared_ptr<RankState> rank, std::unique_ptr<Lane> lane, std::unique_ptr<Channel> frames, int peer)
    : rank_(std::move(rank)), lane_(std::move(lane)), peer_(peer), channel_(std::move(frames)) {}

InwardLink::~InwardLink() {
  rank_->engine->Do([this](Wire&) {
    rank_->issuer.Remove(this);
    rank_->issuer.Remove(lane_.get());
  });
}

Status InwardLink::Open() {
  LYCIA_ASSIGN_OR_RETURN(nothing_, rank_->device->Allocate(1, MemoryKind::kDevice));
  next_ = channel_->Receive();
  rank_->engine->Do([this](Wire&) { rank_->issuer.Add(this); });
  return OkStatus();
}

void InwardLink::Remove(ReceivingEnd* end) {
  std::erase(ends_, end);
  if (end_ == end) end_ = nullptr;
}

void InwardLink::Fail(const Status& status) {
  for (ReceivingEnd* end : ends_) end->events.Fail(status);
}

Need InwardLink::need() const {
  if (state_ != State::kIdle) return Need::kEvent;
  if (ends_.empty()) return Need::kNothing;
  const bool asked = std::any_of(ends_.begin(), ends_.end(), [](const ReceivingEnd* end) { return end->asked_for(); });
  return asked ? Need::kEvent : Need::kArrival;
}

// The control world has failed, and with it the frames.
Status InwardLink::Check() {
  class NoPatience final : public WaitGuard {
    Status StillWaiting(std::int64_t) override { return absl::DeadlineExceededError("not yet"); }
  } guard;
  if (state_ != State::kIdle || next_.event.Done()) return OkStatus();
  const Status waited = next_.event.Wait(&guard);
  return absl::IsDeadlineExceeded(waited) && waited.message() == "not yet" ? OkStatus() : waited;
}

StatusOr<bool> InwardLink::Advance() {
  if (lane_->comm == nullptr) return false;
  switch (state_) {
    case State::kIdle:
      if (!next_.event.Done()) return false;
      std::memcpy(&frame_, channel_->data(next_.slot), sizeof frame_);
      channel_->Release(next_.slot, {});
      next_ = channel_->Receive();
      state_ = State::kFrameThere;
      return true;
    case State::kFrameThere:
      return TakeSlot();
    case State::kPayloadCalled: {
      LYCIA_ASSIGN_OR_RETURN(const bool settled, Settled(*lane_));
      if (!settled) return false;
      LYCIA_RETURN_IF_ERROR(lane_->stream->status());
      LYCIA_RETURN_IF_ERROR(lane_->events.Record(StreamOf(*lane_)));
      state_ = State::kIdle;
      if (end_ == nullptr) return true;
      LYCIA_RETURN_IF_ERROR(end_->events.Record(StreamOf(*lane_)));
      std::exchange(end_, nullptr)->Arrive(slot_, frame_.header);
      return true;
    }
  }
  return false;
}

// A message has been sent for a channel that may not be open yet here, or whose slots are all held: those behind it wait.
StatusOr<bool> InwardLink::TakeSlot() {
  constexpr int kSender = 0;
  const auto found = std::find_if(ends_.begin(), ends_.end(), [&](const ReceivingEnd* end) {
    return end->options.lane == frame_.lane && end->generation == frame_.generation;
  });
  if (found == ends_.end()) return false;
  ReceivingEnd& end = **found;
  if (frame_.header.sequence != end.arrived() || frame_.credits != end.options.credits || frame_.payload_bytes > end.options.bytes) {
    return absl::InternalError(StrCat("channel ", frame_.lane, " from rank ", peer_, ": expected message ", end.arrived(), " under ",
                                      end.options.credits, " credits, got message ", frame_.header.sequence, " under ", frame_.credits,
                                      " credits, ", frame_.payload_bytes, " bytes into ", end.options.bytes, ": the two ends disagree"));
  }
  Event after;
  if (!lane_->events.HasRoom() || !end.SlotFor(&slot_, &after)) return false;
  lane_->stream->Wait(after);
  lane_->last =
      StrCat("message ", frame_.header.sequence, " of ", frame_.payload_bytes, " bytes from rank ", peer_, ", channel ", frame_.lane);
  const std::int64_t bytes = frame_.payload_bytes;
  LYCIA_RETURN_IF_ERROR(
      LYCIA_NCCL_STATUS(lane_->comm,
                        ncclRecv(bytes > 0 ? end.data(slot_) : nothing_.data(), static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)),
                                 ncclUint8, kSender, lane_->comm, StreamOf(*lane_)),
                        lane_->last));
  end_ = &end;
  state_ = State::kPayloadCalled;
  return true;
}

// ---- To oneself ----

SelfPipe::~SelfPipe() {
  rank_->engine->Do([this](Wire&) { rank_->issuer.Remove(this); });
}

Status SelfPipe::Open() {
  LYCIA_ASSIGN_OR_RETURN(stream_, rank_->device->NewStream());
  LYCIA_RETURN_IF_ERROR(events_.Create());
  rank_->engine->Do([this](Wire&) {
    rank_->issuer.Add(this);
    rank_->issuer.FailIfFailed(events_);
  });
  return OkStatus();
}

void SelfPipe::Send(const Sent& sent) {
  const std::uint64_t message = asked_.load(std::memory_order_relaxed);
  sends_[message % sends_.size()] = sent;
  asked_.store(message + 1, std::memory_order_release);
}

StatusOr<bool> SelfPipe::Advance() {
  if (end_ == nullptr || sent_ == asked_.load(std::memory_order_acquire) || !events_.HasRoom()) return false;
  const Sent& next = sends_[sent_ % sends_.size()];
  int slot = 0;
  Event after;
  if (!CanBeEnqueued(next.after) || !end_->SlotFor(&slot, &after)) return false;
  if (next.frame.credits != end_->options.credits || next.frame.payload_bytes > end_->options.bytes) {
    return absl::InternalError(StrCat("channel ", next.frame.lane, " of a rank with itself: ", next.frame.payload_bytes, " bytes under ",
                                      next.frame.credits, " credits into ", end_->options.bytes, " under ", end_->options.credits,
                                      ": the two ends disagree"));
  }
  stream_->Wait(next.after);
  stream_->Wait(after);
  stream_->Copy(end_->data(slot), next.data, next.frame.payload_bytes);
  LYCIA_RETURN_IF_ERROR(stream_->status());
  const cudaStream_t stream = cuda::TargetOf(*stream_).stream;
  LYCIA_RETURN_IF_ERROR(end_->events.Record(stream));
  LYCIA_RETURN_IF_ERROR(events_.Record(stream));
  end_->Arrive(slot, next.frame.header);
  events_.Announce();
  ++sent_;
  return true;
}

void SelfPipe::Fail(const Status& status) {
  events_.Fail(status);
  if (end_ != nullptr) end_->events.Fail(status);
}

}  // namespace lycia::nccl
