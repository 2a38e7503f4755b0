#include "runtime/device/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/check.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia {
namespace {

std::unique_ptr<ThreadPool> Pool(const CpuOptions& options) {
  StatusOr<std::unique_ptr<ThreadPool>> pool = ThreadPool::Create(options);
  LYCIA_CHECK_OK(pool.status());
  return *std::move(pool);
}

TEST(ThreadPool, RunsEveryPartOnceAndOnItsOwnThread) {
  for (const int threads : {1, 2, 5}) {
    const auto pool = Pool({.threads = threads});
    EXPECT_EQ(pool->threads(), threads);
    std::vector<std::thread::id> first(static_cast<std::size_t>(threads));
    pool->Run([&](int thread) { first[static_cast<std::size_t>(thread)] = std::this_thread::get_id(); });
    EXPECT_EQ(first[0], std::this_thread::get_id());
    EXPECT_EQ(std::set<std::thread::id>(first.begin(), first.end()).size(), first.size());
    for (int round = 0; round < 200; ++round) {
      std::vector<int> calls(first.size());  // plain ints: Run must order both ways
      pool->Run([&](int thread) {
        ++calls[static_cast<std::size_t>(thread)];
        EXPECT_EQ(first[static_cast<std::size_t>(thread)], std::this_thread::get_id());
      });
      for (const int count : calls) ASSERT_EQ(count, 1) << "round " << round;
    }
  }
}

TEST(ThreadPool, WakesWorkersThatFellAsleepAndWaitsForSlowOnes) {
  const auto pool = Pool({.threads = 3});
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    int slow = 0;
    pool->Run([&](int thread) {
      if (thread != 2) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      slow = round + 1;
    });
    EXPECT_EQ(slow, round + 1);
  }
}

TEST(ThreadPool, AllocatesNothingInARun) {
  const auto pool = Pool({.threads = 2});
  std::int64_t inside = 0;
  const std::int64_t before = testing::AllocationsOfThisThread();
  for (int i = 0; i < 10; ++i) {
    pool->Run([&](int thread) {
      if (thread == 1) inside = testing::AllocationsOfThisThread();
    });
  }
  const std::int64_t after = testing::AllocationsOfThisThread(), worker = inside;
  pool->Run([&](int thread) {
    if (thread == 1) inside = testing::AllocationsOfThisThread();
  });
  EXPECT_EQ(after, before);
  EXPECT_EQ(inside, worker);
}

TEST(ThreadPool, WorkspacesAreApartAlignedAndOfTheirSize) {
  const auto pool = Pool({.threads = 2, .workspace_bytes = 100});
  const auto one = pool->workspace(0), two = pool->workspace(1);
  EXPECT_EQ(one.size(), 128u);
  EXPECT_EQ(two.size(), 128u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.data()) % 64, 0u);
  EXPECT_TRUE(one.data() + one.size() <= two.data() || two.data() + two.size() <= one.data());
  EXPECT_TRUE(Pool({.workspace_bytes = 0})->workspace(0).empty());
}

TEST(ThreadPool, PinsItsWorkers) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  int core = 0;
  while (!CPU_ISSET(core, &allowed)) ++core;
  const auto pool = Pool({.threads = 2, .cores = {core}});
  int ran_on = -1, cores = 0;
  pool->Run([&](int thread) {
    if (thread != 1) return;
    cpu_set_t mine;
    sched_getaffinity(0, sizeof mine, &mine);
    cores = CPU_COUNT(&mine);
    ran_on = sched_getcpu();
  });
  EXPECT_EQ(ran_on, core);
  EXPECT_EQ(cores, 1);
}

TEST(ThreadPool, RefusesWhatIsNotThere) {
  EXPECT_EQ(ThreadPool::Create({.threads = 0}).status().message(), "a rank needs at least 1 thread, not 0");
  EXPECT_EQ(ThreadPool::Create({.threads = 2, .cores = {99999}}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(PinThisThread(-1).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lycia
