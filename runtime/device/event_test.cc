#include "runtime/device/event.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

// Counts its questions and gives up at the last one allowed.
class CountingGuard final : public WaitGuard {
 public:
  explicit CountingGuard(int patience) : patience_(patience) {}
  Status StillWaiting(std::int64_t waited_ns) override {
    waits_.push_back(waited_ns);
    return static_cast<int>(waits_.size()) >= patience_ ? absl::DeadlineExceededError("worker 3 is in 2F0") : OkStatus();
  }
  const std::vector<std::int64_t>& waits() const { return waits_; }

 private:
  const int patience_;
  std::vector<std::int64_t> waits_;
};

TEST(Event, WithoutASourceIsDone) {
  const Event event;
  EXPECT_TRUE(event.Done());
  CountingGuard guard(1);
  EXPECT_TRUE(event.Wait(&guard).ok());
  EXPECT_TRUE(guard.waits().empty());
}

TEST(HostEventSource, TicketsCompleteInOrderAndNeverBack) {
  HostEventSource source;
  EXPECT_TRUE(source.Done(0));
  EXPECT_FALSE(source.Done(1));
  source.Complete(3);
  EXPECT_TRUE(source.Done(1));
  EXPECT_TRUE(source.Done(3));
  EXPECT_FALSE(source.Done(4));
  source.Complete(2);  // a late report takes nothing back
  EXPECT_TRUE(source.Done(3));
  EXPECT_TRUE((Event{&source, 3}).Wait().ok());
}

TEST(HostEventSource, TheGuardIsAskedAtOnceThenRegularlyAndEndsTheWait) {
  HostEventSource source;
  CountingGuard guard(4);
  const Status status = source.Wait(1, &guard);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(status.message(), "worker 3 is in 2F0");
  ASSERT_EQ(guard.waits().size(), 4u);
  EXPECT_LT(guard.waits()[0], kWaitPollNs / 2);
  // Three naps of kWaitPollNs; clocks of the two waits differ by less than a millisecond.
  EXPECT_GE(guard.waits()[3], 3 * (kWaitPollNs - 1'000'000));
  // Giving up is the waiter's affair: the source goes on.
  source.Complete(1);
  EXPECT_TRUE(source.Wait(1, &guard).ok());
  EXPECT_EQ(guard.waits().size(), 4u);
}

TEST(HostEventSource, AFailureEndsOpenWaitsAndTheFirstSticks) {
  HostEventSource source;
  source.Complete(2);
  Status seen;
  std::thread waiter([&] { seen = source.Wait(3, nullptr); });
  source.Fail(absl::AbortedError("rank 2 is gone"));
  waiter.join();
  EXPECT_EQ(seen.message(), "rank 2 is gone");
  source.Fail(absl::InternalError("later"));
  EXPECT_EQ(source.Wait(4, nullptr).code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(source.Wait(2, nullptr).ok());  // what was done before stays done
  EXPECT_FALSE(source.Done(3));
}

// Eight threads wait for tickets that a ninth completes: every waiter sees what was written before its ticket, with and without guard.
TEST(HostEventSource, ConcurrentWaitersSeeWhatWasWrittenBefore) {
  constexpr int kTickets = 200, kWaiters = 8;
  HostEventSource source;
  std::vector<int> payload(kTickets + 1, 0);
  std::atomic<int> wrong{0};
  std::vector<std::thread> waiters;
  for (int w = 0; w < kWaiters; ++w) {
    waiters.emplace_back([&, w] {
      CountingGuard guard(1 << 30);
      for (int t = 1 + w % 3; t <= kTickets; t += 1 + w % 3) {
        const Status status = Event{&source, static_cast<std::uint64_t>(t)}.Wait(w % 2 == 0 ? &guard : nullptr);
        if (!status.ok() || payload[static_cast<std::size_t>(t)] != 7 * t) ++wrong;
      }
    });
  }
  for (int t = 1; t <= kTickets; ++t) {
    payload[static_cast<std::size_t>(t)] = 7 * t;
    source.Complete(static_cast<std::uint64_t>(t));
    if (t % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(HostEventSource, CompletionAndFailureMayRace) {
  for (int round = 0; round < 200; ++round) {
    HostEventSource source;
    std::thread completes([&] { source.Complete(1); });
    std::thread fails([&] { source.Fail(absl::AbortedError("stop")); });
    const Status status = source.Wait(1, nullptr);
    completes.join();
    fails.join();
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kAborted) << status;
    EXPECT_TRUE(source.Wait(1, nullptr).ok());  // completed by now: done wins
    EXPECT_EQ(source.Wait(2, nullptr).code(), absl::StatusCode::kAborted);
  }
}

}  // namespace
}  // namespace lycia
