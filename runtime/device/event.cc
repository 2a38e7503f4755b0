#include "runtime/device/event.h"

#include <chrono>

namespace lycia {

Status HostEventSource::Wait(std::uint64_t ticket, WaitGuard* guard) {
  if (Done(ticket)) return OkStatus();
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!Done(ticket)) {
    if (failed_.load(std::memory_order_acquire)) return status_;
    if (guard != nullptr) {
      // The guard may take locks of its own and print; it must not hold up Complete().
      lock.unlock();
      const std::int64_t waited = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
      Status verdict = guard->StillWaiting(waited);
      lock.lock();
      if (!verdict.ok()) return verdict;
      if (Done(ticket) || failed_.load(std::memory_order_acquire)) continue;
      // wait_until on the system clock: ThreadSanitizer of GCC 12 does not see pthread_cond_clockwait.
      changed_.wait_until(lock, std::chrono::system_clock::now() + std::chrono::nanoseconds(kWaitPollNs));
    } else {
      changed_.wait(lock);
    }
  }
  return OkStatus();
}

void HostEventSource::Complete(std::uint64_t ticket) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (completed_.load(std::memory_order_relaxed) < ticket) completed_.store(ticket, std::memory_order_release);
  }
  changed_.notify_all();
}

void HostEventSource::Fail(const Status& status) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (failed_.load(std::memory_order_relaxed)) return;
    status_ = status;
    failed_.store(true, std::memory_order_release);
  }
  changed_.notify_all();
}

}  // namespace lycia
