#include "parallel/pipeline/emulated_sync.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia {

EmulatedSync::EmulatedSync(Args args) : args_(std::move(args)) {
  std::size_t most = 0;
  for (const auto& [set, group] : args_.groups) most = std::max(most, static_cast<std::size_t>(group->size()));
  said_.resize(most);
  thread_ = std::thread([this] { Run(); });
}

void EmulatedSync::StartStep() {
  const std::lock_guard<std::mutex> lock(mutex_);
  LYCIA_CHECK_EQ(resolved_, queue_.size()) << "a sync set of the last step has not ended ";
  earlier_ += queue_.size();
  queue_.clear();
  resolved_ = 0;
}

void EmulatedSync::Issue(int sync_set, std::int64_t now_ns) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({.sync_set = sync_set, .issued_ns = now_ns});
  }
  changed_.notify_one();
}

StatusOr<std::int64_t> EmulatedSync::Await(int sync_set, WaitGuard* guard) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::size_t count = queue_.size();  // up to and with the set
  while (count > 0 && sync_set >= 0 && queue_[count - 1].sync_set != sync_set) --count;
  if (count == 0) return 0;
  const std::uint64_t ticket = earlier_ + count;
  lock.unlock();
  LYCIA_RETURN_IF_ERROR(ended_.Wait(ticket, guard));
  lock.lock();
  return queue_[count - 1].end_ns;
}

void EmulatedSync::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void EmulatedSync::Run() {
  std::int64_t free_ns = 0;  // end of the set before
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || resolved_ < queue_.size(); });
    if (stop_) return;
    const Issued next = queue_[resolved_];
    if (resolved_ == 0) free_ns = 0;
    lock.unlock();
    const StatusOr<std::int64_t> start = Rendezvous(next.sync_set, std::max(next.issued_ns, free_ns));
    if (!start.ok()) return ended_.Fail(start.status());
    lock.lock();
    free_ns = queue_[resolved_].end_ns = *start + args_.sync_ns;
    ended_.Complete(earlier_ + ++resolved_);
  }
}

StatusOr<std::int64_t> EmulatedSync::Rendezvous(int sync_set, std::int64_t mine) {
  const auto found = args_.groups.find(sync_set);
  if (found == args_.groups.end() || found->second->size() == 1) return mine;
  Communicator& group = *found->second;
  mine_ = mine;
  LYCIA_RETURN_IF_ERROR(group
                            .AllGather({.in = ConstTensor(&mine_, DType::kI64, {1}),
                                        .out = Tensor{said_.data(), DType::kI64, {group.size()}},
                                        .tag = Tag::kGradient},
                                       {})
                            .Wait(&until_stopped_));
  const std::int64_t latest = *std::max_element(said_.begin(), said_.begin() + group.size());
  return args_.wall_ns ? std::max(latest, args_.wall_ns()) : latest;
}

Status EmulatedSync::UntilStopped::StillWaiting(std::int64_t) {
  const std::lock_guard<std::mutex> lock(sync->mutex_);
  return sync->stop_ ? absl::CancelledError("the emulated synchronisation was stopped") : OkStatus();
}

}  // namespace lycia
