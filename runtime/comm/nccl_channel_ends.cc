// The two ends of channels over NCCL, as their users see them.
#include <utility>

#include "runtime/comm/counted_communicator.h"
#include "runtime/comm/nccl_channel.h"
#include "runtime/core/check.h"

namespace lycia::nccl {
namespace {

class Sender : public Channel {
 public:
  explicit Sender(const ChannelArgs& args) : args_(args), open_(static_cast<std::size_t>(args.options.send_window)) {}

  Event Send(const ConstTensor& tensor, const Event& after, const MessageHeader& header) final {
    LYCIA_CHECK_LE(tensor.bytes(), args_.options.bytes) << args_.name;
    const std::size_t at = sent_ % open_.size();
    LYCIA_CHECK(failed_ || sent_ < open_.size() || HasEnded(open_[at]))
        << args_.name << ": more than " << open_.size() << " sends are open ";
    Frame frame{.header = header,
                .payload_bytes = tensor.bytes(),
                .lane = args_.options.lane,
                .generation = args_.generation,
                .credits = args_.options.credits};
    frame.header.sequence = sent_++;
    Count(*args_.counters, Operation::kSend, args_.options.tag, tensor.bytes());
    open_[at] = Enqueue({.data = tensor.data, .frame = frame, .after = after});
    args_.rank->engine->Wake();
    return open_[at];
  }
  Received Receive() final {
    LYCIA_CHECK(false) << args_.name << ": Receive on the sending side ";
    return {};
  }
  const MessageHeader& header(int) const final {
    LYCIA_CHECK(false) << args_.name << ": header on the sending side ";
    static const MessageHeader none;
    return none;
  }
  void* data(int) const final { return nullptr; }
  void Release(int, const Event&) final { LYCIA_CHECK(false) << args_.name << ": Release on the sending side "; }

 protected:
  virtual Event Enqueue(const SelfPipe::Sent& sent) = 0;
  const ChannelArgs args_;

 private:
  // Done, or never to be: the world has failed.
  bool HasEnded(const Event& event) {
    class NoPatience final : public WaitGuard {
      Status StillWaiting(std::int64_t) override { return absl::DeadlineExceededError("still open"); }
    } guard;
    if (event.Done()) return true;
    failed_ = !absl::IsDeadlineExceeded(event.Wait(&guard));
    return failed_;
  }

  std::vector<Event> open_;  // ring, by message
  std::uint64_t sent_ = 0;
  bool failed_ = false;
};

class LinkSender final : public Sender {
 public:
  LinkSender(const ChannelArgs& args, std::shared_ptr<OutwardLink> link) : Sender(args), link_(std::move(link)) {}

 protected:
  Event Enqueue(const SelfPipe::Sent& sent) override {
    return args_.rank->issuer.Enqueue(link_->lane(), *link_, {.after = sent.after, .frame = sent.frame, .data = sent.data});
  }

 private:
  const std::shared_ptr<OutwardLink> link_;
};

class SelfSender final : public Sender {
 public:
  SelfSender(const ChannelArgs& args, std::shared_ptr<SelfPipe> pipe) : Sender(args), pipe_(std::move(pipe)) {
    args_.rank->engine->Do([&](Wire&) { pipe_->SetWindow(args.options.send_window); });
  }

 protected:
  Event Enqueue(const SelfPipe::Sent& sent) override {
    const std::uint64_t message = pipe_->asked();
    pipe_->Send(sent);
    return pipe_->EventOf(message);
  }

 private:
  const std::shared_ptr<SelfPipe> pipe_;
};

class Receiver : public Channel {
 public:
  explicit Receiver(const ChannelArgs& args) : args_(args), end_(args.options, args.generation) {}
  Status Open() { return end_.Open(*args_.rank->device); }

  Event Send(const ConstTensor&, const Event&, const MessageHeader&) final {
    LYCIA_CHECK(false) << args_.name << ": Send on the receiving side ";
    return {};
  }
  Received Receive() final {
    const Received received = end_.Receive();
    args_.rank->engine->Wake();
    return received;
  }
  const MessageHeader& header(int slot) const final { return end_.header(slot); }
  void* data(int slot) const final { return end_.data(slot); }
  void Release(int slot, const Event& after) final {
    end_.Release(slot, after);
    args_.rank->engine->Wake();
  }

 protected:
  // What is being written into the slots has been written, unless everything has failed.
  void Drain() {
    while (!end_.events.Passed(end_.events.recorded()) && args_.rank->ok()) {
    }
  }
  const ChannelArgs args_;
  ReceivingEnd end_;
};

class LinkReceiver final : public Receiver {
 public:
  LinkReceiver(const ChannelArgs& args, std::shared_ptr<InwardLink> link) : Receiver(args), link_(std::move(link)) {}
  ~LinkReceiver() override {
    args_.rank->engine->Do([&](Wire&) { link_->Remove(&end_); });
    Drain();
  }
  Status Start() {
    LYCIA_RETURN_IF_ERROR(Open());
    args_.rank->engine->Do([&](Wire&) {
      link_->Add(&end_);
      args_.rank->issuer.FailIfFailed(end_.events);
    });
    return OkStatus();
  }

 private:
  const std::shared_ptr<InwardLink> link_;
};

class SelfReceiver final : public Receiver {
 public:
  SelfReceiver(const ChannelArgs& args, std::shared_ptr<SelfPipe> pipe) : Receiver(args), pipe_(std::move(pipe)) {}
  ~SelfReceiver() override {
    args_.rank->engine->Do([&](Wire&) { pipe_->SetEnd(nullptr); });
    Drain();
  }
  Status Start() {
    LYCIA_RETURN_IF_ERROR(Open());
    args_.rank->engine->Do([&](Wire&) {
      pipe_->SetEnd(&end_);
      args_.rank->issuer.FailIfFailed(end_.events);
    });
    return OkStatus();
  }

 private:
  const std::shared_ptr<SelfPipe> pipe_;
};

}  // namespace

std::unique_ptr<Channel> OpenSender(const ChannelArgs& args, std::shared_ptr<OutwardLink> link) {
  return std::make_unique<LinkSender>(args, std::move(link));
}

StatusOr<std::unique_ptr<Channel>> OpenReceiver(const ChannelArgs& args, std::shared_ptr<InwardLink> link) {
  auto receiver = std::make_unique<LinkReceiver>(args, std::move(link));
  LYCIA_RETURN_IF_ERROR(receiver->Start());
  return std::unique_ptr<Channel>(std::move(receiver));
}

std::unique_ptr<Channel> OpenSelfSender(const ChannelArgs& args, std::shared_ptr<SelfPipe> pipe) {
  return std::make_unique<SelfSender>(args, std::move(pipe));
}

StatusOr<std::unique_ptr<Channel>> OpenSelfReceiver(const ChannelArgs& args, std::shared_ptr<SelfPipe> pipe) {
  auto receiver = std::make_unique<SelfReceiver>(args, std::move(pipe));
  LYCIA_RETURN_IF_ERROR(receiver->Start());
  return std::unique_ptr<Channel>(std::move(receiver));
}

}  // namespace lycia::nccl
