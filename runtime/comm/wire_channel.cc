#include "runtime/comm/wire_channel.h"

#include <array>
#include <atomic>
#include <utility>
#include <vector>

#include "runtime/comm/counted_communicator.h"

namespace lycia {
namespace {

// What both ends must agree on travels with every header.
struct WireHeader {
  MessageHeader header;
  std::int64_t payload_bytes = 0;
  std::int32_t credits = 0;
  std::int32_t unused = 0;
};

std::string Describe(const WireChannelArgs& args) {
  const bool sender = args.options.sender;
  return absl::StrCat("channel ", args.options.lane, " from rank ", sender ? args.self : args.peer, " to rank ",
                      sender ? args.peer : args.self, " of the world");
}

// The header's send is the confirmed one: a receiver posts a slot's payload before its header, so whoever met the header has met both.
class SendingChannel final : public Channel, private Task {
 public:
  explicit SendingChannel(const WireChannelArgs& args) : args_(args), open_(static_cast<std::size_t>(args.options.send_window)) {
    args_.engine->Add(this);
  }
  ~SendingChannel() override { args_.engine->Remove(this); }

  Event Send(const ConstTensor& tensor, const Event& after, const MessageHeader& header) override {
    const std::uint64_t ticket = asked_.load(std::memory_order_relaxed) + 1, window = open_.size();
    LYCIA_CHECK_LE(tensor.bytes(), args_.options.bytes) << Describe(args_);
    if (!failed_.load(std::memory_order_acquire)) {
      LYCIA_CHECK(ticket <= window || source_.Done(ticket - window)) << Describe(args_) << ": more than " << window << " sends are open ";
      OpenSend& send = open_[(ticket - 1) % window];
      send.data = tensor.data;
      send.after = after;
      send.header = {.header = header, .payload_bytes = tensor.bytes(), .credits = args_.options.credits};
      send.header.header.sequence = ticket - 1;
    }
    Count(*args_.counters, Operation::kSend, args_.options.tag, tensor.bytes());
    asked_.store(ticket, std::memory_order_release);
    args_.engine->Wake();
    return {&source_, ticket};
  }

  Received Receive() override {
    LYCIA_CHECK(false) << Describe(args_) << ": Receive on the sending side ";
    return {};
  }
  const MessageHeader& header(int) const override {
    LYCIA_CHECK(false) << Describe(args_) << ": header on the sending side ";
    return open_[0].header.header;
  }
  void* data(int) const override { return nullptr; }
  void Release(int, const Event&) override { LYCIA_CHECK(false) << Describe(args_) << ": Release on the sending side "; }

 private:
  struct OpenSend {
    const void* data = nullptr;
    Event after;
    WireHeader header;
    Wire::Request payload_request, header_request;
  };

  void Open(Wire& wire) override {
    const int window = args_.options.send_window;
    payload_port_ = wire.Open({args_.self, args_.peer, args_.payload_tag}, window);
    header_port_ = wire.Open({args_.self, args_.peer, args_.header_tag}, window);
  }

  bool Advance(Wire& wire) override {
    const std::uint64_t asked = asked_.load(std::memory_order_acquire), window = open_.size();
    bool moved = false;
    need_ = done_ == asked ? Need::kNothing : Need::kMessage;
    for (; sent_ < asked; ++sent_, moved = true) {
      OpenSend& send = open_[sent_ % window];
      if (!send.after.Done()) {
        need_ = Need::kEvent;
        break;
      }
      wire.Send(payload_port_, send.data, send.header.payload_bytes, /*confirmed=*/false, &send.payload_request);
      wire.Send(header_port_, &send.header, sizeof(WireHeader), /*confirmed=*/true, &send.header_request);
    }
    const std::uint64_t before = done_;
    while (done_ < sent_ && open_[done_ % window].payload_request.done && open_[done_ % window].header_request.done) ++done_;
    return announcer_.Advance(done_, wire.mover()) || done_ != before || moved;
  }

  Need need() const override { return announcer_.waiting() ? Need::kEvent : need_; }

  void Fail(const Status& status) override {
    failed_.store(true, std::memory_order_release);
    source_.Fail(status);
  }

  void Close(Wire& wire, bool failed) override {
    wire.mover().Settle();
    if (failed) return;
    for (OpenSend& send : open_) {
      if (!send.payload_request.done) wire.Cancel(&send.payload_request);
      if (!send.header_request.done) wire.Cancel(&send.header_request);
    }
    wire.Close(payload_port_);
    wire.Close(header_port_);
  }

  const WireChannelArgs args_;
  std::vector<OpenSend> open_;  // ring, by message
  std::atomic<std::uint64_t> asked_{0};
  std::atomic<bool> failed_{false};
  HostEventSource source_;
  Announcer announcer_{&source_};
  Wire::Port* payload_port_ = nullptr;
  Wire::Port* header_port_ = nullptr;
  std::uint64_t sent_ = 0, done_ = 0;
  Need need_ = Need::kNothing;
};

// Slots are posted in the order of their release, so both threads know, without asking, which slot the k-th message lands in.
class ReceivingChannel final : public Channel, private Task {
 public:
  explicit ReceivingChannel(const WireChannelArgs& args)
      : args_(args),
        slot_bytes_(ChannelMemoryBytes(args.options.bytes, 1)),
        slots_(static_cast<std::size_t>(args.options.credits)),
        free_(slots_.size()),
        released_slots_(slots_.size()),
        posted_slots_(slots_.size()) {
    memory_ = static_cast<char*>(args.options.receive_memory);
    for (int slot = 0; slot < args.options.credits; ++slot) free_[static_cast<std::size_t>(slot)] = slot;
    args_.engine->Add(this);
  }
  ~ReceivingChannel() override { args_.engine->Remove(this); }

  Event Send(const ConstTensor&, const Event&, const MessageHeader&) override {
    LYCIA_CHECK(false) << Describe(args_) << ": Send on the receiving side ";
    return {};
  }

  Received Receive() override {
    const std::uint64_t message = asked_.load(std::memory_order_relaxed);
    LYCIA_CHECK_LT(message - released_count_, slots_.size()) << Describe(args_) << ": every slot is held; Release one before Receive ";
    asked_.store(message + 1, std::memory_order_relaxed);
    return {{&source_, message + 1}, free_[message % slots_.size()]};
  }

  const MessageHeader& header(int slot) const override { return slots_[static_cast<std::size_t>(slot)].header.header; }
  void* data(int slot) const override { return memory_ + slot * slot_bytes_; }

  void Release(int slot, const Event& after) override {
    LYCIA_CHECK(slot >= 0 && slot < args_.options.credits) << Describe(args_) << ": no slot " << slot << " ";
    LYCIA_CHECK_LT(released_count_, asked_.load(std::memory_order_relaxed)) << Describe(args_) << ": nothing to release ";
    free_[released_count_ % slots_.size()] = slot;
    released_slots_[released_count_ % slots_.size()] = {slot, after};
    released_.store(++released_count_, std::memory_order_release);
    args_.engine->Wake();
  }

 private:
  struct Slot {
    WireHeader header;
    Wire::Request payload_request, header_request;
  };
  struct Released {
    int slot = 0;
    Event after;
  };
  void Open(Wire& wire) override {
    const int credits = args_.options.credits;
    payload_port_ = wire.Open({args_.peer, args_.self, args_.payload_tag}, credits);
    header_port_ = wire.Open({args_.peer, args_.self, args_.header_tag}, credits);
    if (memory_ == nullptr && slot_bytes_ > 0) {
      StatusOr<Buffer> owned = wire.mover().Allocate(slot_bytes_ * credits);
      if (!owned.ok()) {
        status = owned.status();
        return;
      }
      owned_ = *std::move(owned);
      memory_ = static_cast<char*>(owned_.data());
    }
    for (int slot = 0; slot < credits; ++slot) Post(wire, slot);
  }

  void Post(Wire& wire, int slot) {
    Slot& to = slots_[static_cast<std::size_t>(slot)];
    posted_slots_[posted_++ % slots_.size()] = slot;
    wire.Receive(payload_port_, data(slot), args_.options.bytes, &to.payload_request);
    wire.Receive(header_port_, &to.header, sizeof(WireHeader), &to.header_request);
  }

  bool Advance(Wire& wire) override {
    if (!status.ok()) return false;
    const std::uint64_t released = released_.load(std::memory_order_acquire);
    bool moved = false;
    for (; reposted_ < released; ++reposted_, moved = true) {
      const Released& next = released_slots_[reposted_ % slots_.size()];
      if (!next.after.Done()) break;
      Post(wire, next.slot);
    }
    still_read_ = reposted_ < released;
    const std::uint64_t before = done_;
    while (done_ < posted_) {
      const Slot& slot = slots_[static_cast<std::size_t>(posted_slots_[done_ % slots_.size()])];
      if (!slot.payload_request.done || !slot.header_request.done) break;
      status = Verify(slot);
      if (!status.ok()) return true;
      ++done_;
    }
    return announcer_.Advance(done_, wire.mover()) || done_ != before || moved;
  }

  Status Verify(const Slot& slot) const {
    const WireHeader& got = slot.header;
    if (slot.header_request.bytes == sizeof(WireHeader) && got.header.sequence == done_ && got.credits == args_.options.credits &&
        got.payload_bytes == slot.payload_request.bytes) {
      return OkStatus();
    }
    return absl::InternalError(absl::StrCat(Describe(args_), ": expected message ", done_, " under ", args_.options.credits,
                                            " credits, got message ", got.header.sequence, " under ", got.credits, " credits, ",
                                            slot.payload_request.bytes, " of ", got.payload_bytes,
                                            " bytes: the two ends disagree, or a lane was opened twice"));
  }

  // A wait for a message only polls often when the message has been asked for.
  Need need() const override {
    if (still_read_ || announcer_.waiting()) return Need::kEvent;
    return asked_.load(std::memory_order_relaxed) > done_ ? Need::kMessage : Need::kArrival;
  }

  void Fail(const Status& status) override { source_.Fail(status); }

  void Close(Wire& wire, bool failed) override {
    wire.mover().Settle();
    if (failed) return;
    for (Slot& slot : slots_) {
      if (!slot.payload_request.done) wire.Cancel(&slot.payload_request);
      if (!slot.header_request.done) wire.Cancel(&slot.header_request);
    }
    wire.Close(payload_port_);
    wire.Close(header_port_);
  }

  const WireChannelArgs args_;
  const std::int64_t slot_bytes_;
  Buffer owned_;
  char* memory_ = nullptr;
  std::vector<Slot> slots_;

  // Of the calling thread; rings indexed by message.
  std::vector<int> free_;
  std::uint64_t released_count_ = 0;
  // From the calling thread to the communication thread.
  std::vector<Released> released_slots_;
  std::atomic<std::uint64_t> released_{0};
  std::atomic<std::uint64_t> asked_{0};
  HostEventSource source_;
  Announcer announcer_{&source_};
  // Of the communication thread.
  Wire::Port* payload_port_ = nullptr;
  Wire::Port* header_port_ = nullptr;
  std::vector<int> posted_slots_;
  std::uint64_t posted_ = 0, reposted_ = 0, done_ = 0;
  bool still_read_ = false;  // a released slot waits for its event
};

}  // namespace

std::unique_ptr<Channel> OpenSendingChannel(const WireChannelArgs& args) { return std::make_unique<SendingChannel>(args); }
std::unique_ptr<Channel> OpenReceivingChannel(const WireChannelArgs& args) { return std::make_unique<ReceivingChannel>(args); }

}  // namespace lycia
