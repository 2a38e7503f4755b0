#include "runtime/comm/thread_wire.h"

#include <limits>
#include <map>

namespace lycia {
namespace {

// First in, first out, through Wire::Request::next.
class RequestQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  void Push(Wire::Request* request) {
    request->next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = request;
    last_ = request;
  }
  Wire::Request* Pop() {
    Wire::Request* request = first_;
    first_ = request->next;
    return request;
  }
  void Remove(Wire::Request* request) {
    Wire::Request* before = nullptr;
    for (Wire::Request* at = first_; at != nullptr; before = at, at = at->next) {
      if (at != request) continue;
      (before == nullptr ? first_ : before->next) = at->next;
      if (last_ == at) last_ = before;
      return;
    }
  }

 private:
  Wire::Request* first_ = nullptr;
  Wire::Request* last_ = nullptr;
};

// Sends that found no receive, or receives that found no send: one of the two is always empty.
struct ThreadPort final : Wire::Port {
  Wire::PortName name;
  int users = 0;
  RequestQueue sends;
  RequestQueue receives;
};

class ThreadWire final : public Wire {
 public:
  using Wire::Wire;

  bool external() const override { return false; }
  bool lends() const override { return true; }
  std::int64_t max_tag() const override { return std::numeric_limits<std::int64_t>::max(); }
  std::int64_t max_message_bytes() const override { return std::numeric_limits<std::int64_t>::max(); }

  Port* Open(const PortName& name, int /*requests*/) override {
    std::unique_ptr<ThreadPort>& port = ports_[name];
    if (port == nullptr) {
      port = std::make_unique<ThreadPort>();
      port->name = name;
    }
    ++port->users;
    return port.get();
  }

  void Close(Port* port) override {
    auto* closed = static_cast<ThreadPort*>(port);
    if (--closed->users == 0) ports_.erase(ports_.find(closed->name));
  }

  // A send always ends with its receive, which is what `confirmed` asks for.
  void Send(Port* port, const void* data, std::int64_t bytes, bool /*confirmed*/, Request* request) override {
    Start(port, data, bytes, /*is_send=*/true, /*borrow=*/false, request);
    auto* to = static_cast<ThreadPort*>(port);
    if (to->receives.empty()) {
      to->sends.Push(request);
    } else {
      Meet(request, to->receives.Pop());
    }
  }
  void Receive(Port* port, void* data, std::int64_t bytes, Request* request) override { PostReceive(port, data, bytes, false, request); }
  void Borrow(Port* port, void* data, std::int64_t bytes, Request* request) override { PostReceive(port, data, bytes, true, request); }

  void GiveBack(Request* request) override {
    request->partner->done = true;
    request->partner->partner = nullptr;
    request->partner = nullptr;
  }

  void Cancel(Request* request) override {
    if (request->partner != nullptr) {
      // The lender's memory goes away: its borrower never sees the message. A borrower that goes away gives back.
      request->partner->partner = nullptr;
      request->partner->done = !request->is_send;
      request->partner = nullptr;
    } else if (!request->done) {
      auto* port = static_cast<ThreadPort*>(request->port);
      (request->is_send ? port->sends : port->receives).Remove(request);
    }
    request->done = true;
  }

  bool Poll() override {
    if (const Status moved = mover().Check(); !moved.ok()) Fail(moved);
    return false;
  }

 private:
  static void Start(Port* port, const void* data, std::int64_t bytes, bool is_send, bool borrow, Request* request) {
    *request = Request{.done = false, .bytes = bytes, .data = data, .port = port, .is_send = is_send, .borrow = borrow};
  }

  void PostReceive(Port* port, void* data, std::int64_t bytes, bool borrow, Request* request) {
    Start(port, data, bytes, /*is_send=*/false, borrow, request);
    auto* from = static_cast<ThreadPort*>(port);
    if (from->sends.empty()) {
      from->receives.Push(request);
    } else {
      Meet(from->sends.Pop(), request);
    }
  }

  void Meet(Request* send, Request* receive) {
    if (send->bytes > receive->bytes) {
      const PortName& name = static_cast<ThreadPort*>(send->port)->name;
      Fail(absl::InternalError(absl::StrCat("a message of ", send->bytes, " bytes from rank ", name.from, " to rank ", name.to, " (tag ",
                                            name.tag, ") met a receive of ", receive->bytes,
                                            " bytes: the two ranks disagree on an operation or its size")));
      return;
    }
    receive->bytes = send->bytes;
    receive->done = true;
    if (receive->borrow) {
      receive->data = send->data;
      receive->partner = send;
      send->partner = receive;
      return;
    }
    mover().Copy(const_cast<void*>(receive->data), send->data, send->bytes);
    send->done = true;
  }

  std::map<PortName, std::unique_ptr<ThreadPort>> ports_;
};

}  // namespace

std::unique_ptr<Wire> NewThreadWire(std::unique_ptr<Mover> mover) { return std::make_unique<ThreadWire>(std::move(mover)); }

}  // namespace lycia
