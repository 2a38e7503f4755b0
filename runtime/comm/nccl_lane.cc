#include "runtime/comm/nccl_lane.h"

#include "runtime/comm/nccl_error.h"

namespace lycia::nccl {
namespace {

// Also ends a wait whose source has failed meanwhile: an aborted operation may never pass.
class FailureGuard final : public WaitGuard {
 public:
  FailureGuard(WaitGuard* inner, const std::atomic<bool>& failed, const Status& failure)
      : inner_(inner), failed_(failed), failure_(failure) {}
  Status StillWaiting(std::int64_t waited_ns) override {
    if (failed_.load(std::memory_order_acquire)) return failure_;
    return inner_ == nullptr ? OkStatus() : inner_->StillWaiting(waited_ns);
  }

 private:
  WaitGuard* const inner_;
  const std::atomic<bool>& failed_;
  const Status& failure_;
};

}  // namespace

Status LaunchedEvents::Record(cudaStream_t stream) {
  LYCIA_ASSIGN_OR_RETURN(recorded_, events_.Record(stream, nullptr));
  return OkStatus();
}

void LaunchedEvents::Fail(const Status& status) {
  if (failed_.load(std::memory_order_relaxed)) return;
  done_before_ = recorded_;
  while (done_before_ > 0 && !events_.Done(done_before_)) --done_before_;
  failure_ = status;
  failed_.store(true, std::memory_order_release);
  launched_.Fail(status);
}

bool LaunchedEvents::Done(std::uint64_t ticket) const {
  if (failed_.load(std::memory_order_acquire)) return ticket <= done_before_;
  return launched_.Done(ticket) && events_.Done(ticket);
}

Status LaunchedEvents::Wait(std::uint64_t ticket, WaitGuard* guard) {
  LYCIA_RETURN_IF_ERROR(launched_.Wait(ticket, guard));
  FailureGuard until_failure(guard, failed_, failure_);
  const Status waited = events_.Wait(ticket, &until_failure);
  return failed_.load(std::memory_order_acquire) && ticket > done_before_ ? failure_ : waited;
}

Status LaunchedEvents::EnqueueWait(cudaStream_t stream, std::uint64_t ticket, WaitGuard* guard) {
  LYCIA_RETURN_IF_ERROR(launched_.Wait(ticket, guard));
  if (const Status failed = failure(); !failed.ok() && ticket > done_before_) return failed;
  return events_.EnqueueWait(stream, ticket);
}

std::string Lane::Where() const { return StrCat("rank ", rank, " of ", size, " of ", name); }

StatusOr<bool> Settled(Lane& lane) {
  ncclResult_t state = ncclSuccess;
  LYCIA_RETURN_IF_ERROR(LYCIA_NCCL_STATUS(lane.comm, ncclCommGetAsyncError(lane.comm, &state), lane.Where()));
  if (state == ncclInProgress) return false;
  if (state == ncclSuccess) return true;
  return ToStatus(state, lane.comm, "NCCL", __FILE__, __LINE__, StrCat(lane.last, lane.last.empty() ? "" : ", ", lane.Where()));
}

}  // namespace lycia::nccl
