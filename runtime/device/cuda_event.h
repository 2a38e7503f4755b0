// CudaEventSource: the tickets of one CUDA stream, kept in a ring of CUDA events that is made once.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_EVENT_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_EVENT_H_

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/core/status.h"
#include "runtime/device/event.h"

namespace lycia::cuda {

// A source whose tickets another CUDA stream can wait for without the host, once the work behind them has been enqueued.
class StreamEventSource : public EventSource {
 public:
  // The work behind the ticket has been enqueued: EnqueueWait does not block.
  virtual bool Launched(std::uint64_t ticket) const = 0;
  // Later work on `stream` starts after the ticket. Blocks, under the guard, only until the ticket is launched.
  virtual Status EnqueueWait(cudaStream_t stream, std::uint64_t ticket, WaitGuard* guard) = 0;
};

// Ticket t stands in events[t % ring]. Before a slot is used again its old ticket is waited for, so that at most `ring` tickets are
// open, a ticket below the ring is done for certain, and no ticket is ever taken for a younger one. One thread records; any thread asks.
class CudaEventSource final : public StreamEventSource {
 public:
  // Tickets that may be open at once. A stage enqueues a few dozen records a micro-batch; a host thread that is thousands ahead gains
  // nothing.
  static constexpr std::uint64_t kRing = 1024;

  CudaEventSource() = default;
  ~CudaEventSource() override;
  CudaEventSource(const CudaEventSource&) = delete;
  CudaEventSource& operator=(const CudaEventSource&) = delete;

  // Makes the events on the current device; once, before any other call.
  Status Create(std::uint64_t ring = kRing);

  // The next ticket, done when everything enqueued on `stream` so far is. Blocks, under the guard, only when `ring` tickets are open.
  StatusOr<std::uint64_t> Record(cudaStream_t stream, WaitGuard* guard);
  // A ticket that is never done: every wait on it returns `status`, which must not be OK. The first failure sticks.
  std::uint64_t Fail(const Status& status);
  // Later work on `stream` starts after the ticket; the calling thread does not block. The failure, if the source failed before it.
  Status EnqueueWait(cudaStream_t stream, std::uint64_t ticket, WaitGuard* guard = nullptr) override;
  bool Launched(std::uint64_t) const override { return true; }  // a ticket is given out once it is recorded

  // False for a ticket that failed, as for one that is still open: Wait tells them apart.
  bool Done(std::uint64_t ticket) const override;
  Status Wait(std::uint64_t ticket, WaitGuard* guard) override;

 private:
  cudaEvent_t Slot(std::uint64_t ticket) const { return events_[static_cast<std::size_t>(ticket % events_.size())]; }
  void MarkDone(std::uint64_t ticket) const;
  Status Failure(std::uint64_t ticket) const;  // OK unless the source failed before recording `ticket`

  std::vector<cudaEvent_t> events_;
  mutable std::atomic<std::uint64_t> completed_{0};  // every ticket up to here is done; grows only
  std::atomic<std::uint64_t> recorded_{0};
  mutable std::mutex mutex_;  // a slot is not recorded again while another stream is told to wait for it; also guards status_
  Status status_;
};

// "Not ready" is an answer, not an error: it is taken off this thread's last error, where a later kernel launch would find it.
cudaError_t ClearNotReady(cudaError_t answer);

// Asks `query` (cudaSuccess, cudaErrorNotReady or a failure) until it is ready, with short naps; the guard is asked once when the wait
// starts to block and then every kWaitPollNs. `call` names the query in the error text.
Status PollUntilReady(absl::FunctionRef<cudaError_t()> query, std::string_view call, WaitGuard* guard);

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_DEVICE_CUDA_EVENT_H_
