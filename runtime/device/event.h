// Event: "this much of that queue is done". A value; copying it costs nothing and waiting allocates nothing.
//
// A queue of work that completes in order (a stream, one direction of a channel, a communicator) is an EventSource; its k-th piece of
// work has ticket k. An Event is (source, ticket) and is done once the source has completed that ticket.
#ifndef LYCIA_RUNTIME_DEVICE_EVENT_H_
#define LYCIA_RUNTIME_DEVICE_EVENT_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "runtime/core/status.h"

namespace lycia {

// Asked, again and again, by a wait that has lasted; a non-OK answer ends the wait with that status. The watchdog is one.
class WaitGuard {
 public:
  virtual ~WaitGuard() = default;
  // waited_ns: how long this wait has lasted. Called about every kWaitPollNs of a blocked wait, and once when it starts to block.
  virtual Status StillWaiting(std::int64_t waited_ns) = 0;
};

inline constexpr std::int64_t kWaitPollNs = 20'000'000;

class EventSource {
 public:
  virtual ~EventSource() = default;
  virtual bool Done(std::uint64_t ticket) const = 0;
  // Blocks the calling thread until the ticket is done (OK), the source failed (its status) or the guard gives up (its status).
  virtual Status Wait(std::uint64_t ticket, WaitGuard* guard) = 0;
};

// An EventSource completed by a host thread.
class HostEventSource final : public EventSource {
 public:
  bool Done(std::uint64_t ticket) const override { return completed_.load(std::memory_order_acquire) >= ticket; }
  Status Wait(std::uint64_t ticket, WaitGuard* guard) override;

  // Tickets up to and including `ticket` are done. Any thread.
  void Complete(std::uint64_t ticket);
  // Every wait on a ticket not yet done returns `status`; the first failure sticks.
  void Fail(const Status& status);

 private:
  std::atomic<std::uint64_t> completed_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  Status status_;
};

struct Event {
  EventSource* source = nullptr;  // nullptr: done already
  std::uint64_t ticket = 0;

  bool Done() const { return source == nullptr || source->Done(ticket); }
  Status Wait(WaitGuard* guard = nullptr) const { return source == nullptr ? OkStatus() : source->Wait(ticket, guard); }
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_DEVICE_EVENT_H_
