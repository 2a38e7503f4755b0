// Wire: messages between pairs of ranks, the only thing a transport has to bring. Collectives and channels are built on it once.
//
// All calls are made by one thread, the communication thread of the process; nothing blocks and nothing is locked. Messages of one port
// arrive in the order of their sends. Ports and their bookkeeping are allocated when they are opened; messages allocate nothing.
#ifndef LYCIA_RUNTIME_COMM_WIRE_H_
#define LYCIA_RUNTIME_COMM_WIRE_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "runtime/comm/mover.h"
#include "runtime/core/status.h"

namespace lycia {

class Wire {
 public:
  // One ordered pair of ranks of the world and a tag; both ends open it under the same name.
  struct PortName {
    int from = 0;
    int to = 0;
    std::int64_t tag = 0;  // 0 .. max_tag()
    auto operator<=>(const PortName&) const = default;
  };
  struct Port {
    virtual ~Port() = default;
  };

  // One send or receive under way. Owned by the caller, at a fixed address until done or cancelled.
  struct Request {
    bool done = true;
    std::int64_t bytes = 0;      // a receive: room at first, length of the message once done
    const void* data = nullptr;  // a receive: where the message lies, once done

    // Bookkeeping of the wire.
    Port* port = nullptr;
    Request* next = nullptr;     // in the port's queue
    Request* partner = nullptr;  // lender of a borrowed message and its borrower
    int index = -1;              // among the open requests
    bool is_send = false;
    bool borrow = false;
  };

  explicit Wire(std::unique_ptr<Mover> mover = NewHostMover()) : mover_(std::move(mover)) {}
  virtual ~Wire() = default;
  // Messages come from other processes, so Poll() must be called while requests are open.
  virtual bool external() const = 0;
  virtual std::int64_t max_tag() const = 0;
  virtual std::int64_t max_message_bytes() const = 0;

  // A borrowed message stays in its sender's memory, so that it may be larger than what was set aside for it.
  virtual bool lends() const { return false; }

  // `requests`: how many of this end will be open at once.
  virtual Port* Open(const PortName& name, int requests) = 0;
  virtual void Close(Port* port) = 0;

  // `confirmed`: done only once a receive is posted for the message; otherwise perhaps earlier.
  virtual void Send(Port* port, const void* data, std::int64_t bytes, bool confirmed, Request* request) = 0;
  virtual void Receive(Port* port, void* data, std::int64_t bytes, Request* request) = 0;
  // As Receive, but where sender and receiver share memory the message stays in the sender's, whose send ends with GiveBack.
  virtual void Borrow(Port* port, void* data, std::int64_t bytes, Request* request) = 0;
  virtual void GiveBack(Request* request) = 0;
  // Forgets an open request (a channel that closes has receives posted).
  virtual void Cancel(Request* request) = 0;

  // Something failed and peers may be gone: from here on the wire is only destroyed, without waiting for anyone.
  virtual void Abandon() {}

  // What copies and adds the bytes of this process. A message that was received has been asked of it, but perhaps not happened yet.
  Mover& mover() { return *mover_; }

  // Completes requests of messages that came or went; true if any.
  virtual bool Poll() = 0;
  // The first failure; the wire is then not used any more.
  const Status& status() const { return status_; }

 protected:
  void Fail(const Status& status) {
    if (status_.ok()) status_ = status;
  }

 private:
  const std::unique_ptr<Mover> mover_;
  Status status_;
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_WIRE_H_
