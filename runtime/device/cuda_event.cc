#include "runtime/device/cuda_event.h"

#include <time.h>

#include <chrono>
#include <thread>

#include "runtime/core/check.h"
#include "runtime/device/cuda_error.h"

namespace lycia::cuda {
namespace {

// A kernel of the step loop ends within tens of microseconds: first give the core away only briefly, then sleep.
constexpr std::int64_t kYieldNs = 50'000;
constexpr std::int64_t kNapNs = 20'000;

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

cudaError_t ClearNotReady(cudaError_t answer) {
  if (answer == cudaErrorNotReady) cudaGetLastError();
  return answer;
}

Status PollUntilReady(absl::FunctionRef<cudaError_t()> query, std::string_view call, WaitGuard* guard) {
  const std::int64_t start = NowNs();
  std::int64_t next_question = 0;
  while (true) {
    const cudaError_t answer = query();
    if (answer == cudaSuccess) return OkStatus();
    const std::int64_t waited = NowNs() - start;
    if (answer != cudaErrorNotReady)
      return ToStatus(answer, call, __FILE__, __LINE__, absl::StrCat("after waiting ", waited / 1000, " us"));
    if (guard != nullptr && waited >= next_question) {
      LYCIA_RETURN_IF_ERROR(guard->StillWaiting(waited));
      next_question = waited + kWaitPollNs;
    }
    if (waited < kYieldNs) {
      std::this_thread::yield();
    } else {
      const timespec nap{0, kNapNs};
      ::nanosleep(&nap, nullptr);
    }
  }
}

CudaEventSource::~CudaEventSource() {
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

Status CudaEventSource::Create(std::uint64_t ring) {
  LYCIA_CHECK(events_.empty() && ring > 0);
  events_.reserve(static_cast<std::size_t>(ring));
  for (std::uint64_t i = 0; i < ring; ++i) {
    cudaEvent_t event = nullptr;
    // Without timing a record is cheaper and waits between streams need no flush.
    LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event ", i, " of ", ring));
    events_.push_back(event);
  }
  return OkStatus();
}

StatusOr<std::uint64_t> CudaEventSource::Record(cudaStream_t stream, WaitGuard* guard) {
  const std::uint64_t ticket = recorded_.load(std::memory_order_relaxed) + 1;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!status_.ok()) return status_;
  }
  // The slot's old ticket first, outside the lock: others may ask meanwhile.
  if (ticket > events_.size()) LYCIA_RETURN_IF_ERROR(Wait(ticket - events_.size(), guard));
  std::lock_guard<std::mutex> lock(mutex_);
  LYCIA_RETURN_IF_ERROR(LYCIA_CUDA_STATUS(cudaEventRecord(Slot(ticket), stream), "ticket ", ticket));
  recorded_.store(ticket, std::memory_order_release);
  return ticket;
}

std::uint64_t CudaEventSource::Fail(const Status& status) {
  LYCIA_CHECK(!status.ok());
  std::lock_guard<std::mutex> lock(mutex_);
  if (status_.ok()) status_ = status;
  return recorded_.load(std::memory_order_relaxed) + 1;
}

Status CudaEventSource::EnqueueWait(cudaStream_t stream, std::uint64_t ticket, WaitGuard*) {
  LYCIA_RETURN_IF_ERROR(Failure(ticket));
  std::lock_guard<std::mutex> lock(mutex_);
  // Once its slot may have been taken over, the ticket is below completed_: waiting for the younger one could be a deadlock.
  if (completed_.load(std::memory_order_acquire) >= ticket) return OkStatus();
  return LYCIA_CUDA_STATUS(cudaStreamWaitEvent(stream, Slot(ticket), 0), "ticket ", ticket);
}

bool CudaEventSource::Done(std::uint64_t ticket) const {
  if (completed_.load(std::memory_order_acquire) >= ticket) return true;
  if (recorded_.load(std::memory_order_acquire) < ticket) return false;
  // If the slot was taken over just now, the younger ticket answers: ready means that both are, not ready is corrected by the next
  // question.
  if (ClearNotReady(cudaEventQuery(Slot(ticket))) != cudaSuccess) return false;
  MarkDone(ticket);
  return true;
}

Status CudaEventSource::Wait(std::uint64_t ticket, WaitGuard* guard) {
  if (completed_.load(std::memory_order_acquire) >= ticket) return OkStatus();
  LYCIA_RETURN_IF_ERROR(Failure(ticket));
  const auto query = [this, ticket]() -> cudaError_t {
    if (completed_.load(std::memory_order_acquire) >= ticket) return cudaSuccess;
    return ClearNotReady(cudaEventQuery(Slot(ticket)));
  };
  LYCIA_RETURN_IF_ERROR(PollUntilReady(query, "cudaEventQuery", guard));
  MarkDone(ticket);
  return OkStatus();
}

void CudaEventSource::MarkDone(std::uint64_t ticket) const {
  std::uint64_t before = completed_.load(std::memory_order_relaxed);
  while (before < ticket && !completed_.compare_exchange_weak(before, ticket, std::memory_order_acq_rel)) {
  }
}

Status CudaEventSource::Failure(std::uint64_t ticket) const {
  if (ticket <= recorded_.load(std::memory_order_acquire)) return OkStatus();
  std::lock_guard<std::mutex> lock(mutex_);
  LYCIA_CHECK(!status_.ok()) << "ticket " << ticket << " was never recorded ";
  return status_;
}

}  // namespace lycia::cuda
