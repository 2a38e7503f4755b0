// A board must show what each rank last published, whole, from threads and other processes; must not allocate while a step runs; and must
// show a process that has stopped as stale.
#include "runtime/trace/board.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/device/testing/count_allocations.h"
#include "runtime/trace/testing/board_testing.h"
#include "runtime/trace/watchdog.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;
using testing::Child;
using testing::Eventually;
using testing::OpenBoard;
using testing::Sleep;

std::string JobName(const char* what) { return StrCat("board_test_", what, "_", getpid()); }

bool Exists(const std::string& job) {
  struct stat about;
  return stat(("/dev/shm/" + job).c_str(), &about) == 0;
}

TEST(Board, ShowsWhatWasPublishedLast) {
  const auto board = OpenBoard({.ranks = 3});
  EXPECT_EQ(board->Snapshot()[1].state, RankState::kAbsent);
  board->Join(1);
  board->Publish(1, "p0.1F3", 7);
  Sleep(30);
  BoardRow row = board->Snapshot()[1];
  EXPECT_EQ(row.state, RankState::kRunning);
  EXPECT_EQ(row.instruction, "p0.1F3");
  EXPECT_EQ(row.step, 7);
  EXPECT_EQ(row.pid, getpid());
  EXPECT_FALSE(row.host.empty());
  EXPECT_FALSE(row.waiting);
  EXPECT_GE(row.instruction_age_ns, 30'000'000);
  board->Waiting(1, 5'000'000'000);
  row = board->Snapshot()[1];
  EXPECT_TRUE(row.waiting);
  EXPECT_GE(row.wait_age_ns, 5'000'000'000);
  EXPECT_LT(row.wait_age_ns, 8'000'000'000);
  board->Publish(1, std::string(100, 'x'), 8);  // cut, and the wait is over
  row = board->Snapshot()[1];
  EXPECT_EQ(row.instruction, std::string(63, 'x'));
  EXPECT_FALSE(row.waiting);
  EXPECT_LT(row.instruction_age_ns, 30'000'000'000);
  board->Leave(1);
  EXPECT_EQ(board->Snapshot()[1].state, RankState::kLeft);
}

TEST(Board, TheHeartbeatKeepsALongInstructionFreshAndAWaitEndsWithItsLease) {
  const auto board = OpenBoard({.ranks = 1});
  board->Join(0);
  board->Publish(0, "p0.0B1", 1);
  board->Waiting(0, 0);
  EXPECT_TRUE(board->Snapshot()[0].waiting);
  // Nobody says any more that the rank waits, so it computes.
  EXPECT_TRUE(Eventually([&] { return !board->Snapshot()[0].waiting; }));
  EXPECT_GT(board->Snapshot()[0].instruction_age_ns, kWaitLeaseNs / 2);
  EXPECT_LT(board->Snapshot()[0].heartbeat_age_ns, kWaitLeaseNs);
}

TEST(Board, PublishingAllocatesNothing) {
  const auto board = OpenBoard({.ranks = 1});
  board->Join(0);
  Watchdog watchdog(board.get(), 0, {});
  const std::int64_t before = testing::AllocationsOfThisThread();
  for (int i = 0; i < 100; ++i) {
    board->Publish(0, "a text that is longer than what a small string holds", i);
    EXPECT_TRUE(watchdog.StillWaiting(i).ok());
  }
  EXPECT_EQ(testing::AllocationsOfThisThread(), before);
}

TEST(Board, ATextIsNeverTorn) {
  const auto board = OpenBoard({.ranks = 2});
  board->Join(0);
  board->Publish(0, std::string(63, 'a'), 'a');
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (char c = 'a'; !stop.load(); c = c == 'z' ? 'a' : static_cast<char>(c + 1)) {
      board->Publish(0, std::string(63, c), c);
      for (int i = 0; i < c; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);  // a pause that readers meet at any phase
    }
  });
  int whole = 0;
  for (int i = 0; i < 3000; ++i) {
    const BoardRow row = board->Snapshot()[0];
    if (!row.whole) continue;  // the writer lost its processor in the middle
    ++whole;
    EXPECT_EQ(row.instruction, std::string(63, static_cast<char>(row.step)));
  }
  EXPECT_GT(whole, 100);
  stop = true;
  writer.join();
}

TEST(Board, ProcessesShareItAndTheLastOneToAttachUnlinksTheFile) {
  const std::string job = JobName("shared");
  const Child child([&] {
    auto board = Board::Open({.ranks = 2, .job = job, .processes = 2});
    if (!board.ok()) _exit(1);
    (*board)->Join(1);
    (*board)->Publish(1, "p1.2B5", 42);
    for (;;) pause();
  });
  ASSERT_TRUE(Eventually([&] { return Exists(job); }));
  const auto board = OpenBoard({.ranks = 2, .job = job, .processes = 2});
  ASSERT_NE(board, nullptr);
  EXPECT_TRUE(Eventually([&] { return !Exists(job); }));
  board->Join(0);
  ASSERT_TRUE(Eventually([&] { return board->Snapshot()[1].instruction == "p1.2B5"; }));
  EXPECT_EQ(board->Snapshot()[1].pid, child.pid());
  EXPECT_EQ(board->Snapshot()[1].step, 42);
}

TEST(Board, AStoppedProcessIsNamedWithItsLastInstructionWithinTheDeadline) {
  const std::string job = JobName("stopped");
  const Child child([&] {
    auto board = Board::Open({.ranks = 2, .job = job, .processes = 2});
    if (!board.ok()) _exit(1);
    (*board)->Join(1);
    for (;;) {
      (*board)->Publish(1, "p0.3F6", 9);  // it works on until it is stopped
      usleep(1000);
    }
  });
  ASSERT_TRUE(Eventually([&] { return Exists(job); }));
  const auto board = OpenBoard({.ranks = 2, .job = job, .processes = 2});
  ASSERT_NE(board, nullptr);
  board->Join(0);
  board->Publish(0, "p0.2RECVF6", 9);
  ASSERT_TRUE(Eventually([&] { return board->Snapshot()[1].step == 9; }));
  kill(child.pid(), SIGSTOP);
  std::string report;
  Watchdog watchdog(board.get(), 0, {.deadline_ns = 1'500'000'000, .print = [&](std::string_view text) { report += text; }});
  HostEventSource never;
  const auto start = std::chrono::steady_clock::now();
  const Status status = never.Wait(1, &watchdog);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("rank 1"));
  EXPECT_THAT(message, HasSubstr("is stopped or dead"));
  EXPECT_THAT(message, HasSubstr("its last instruction was p0.3F6 of step 9"));
  EXPECT_THAT(message, HasSubstr(StrCat("pid ", child.pid())));
  EXPECT_THAT(report, HasSubstr("p0.2RECVF6"));  // the table has everybody
}

TEST(Board, StrangersAreRefused) {
  const std::string job = JobName("strangers");
  auto first = OpenBoard({.ranks = 2, .job = job, .processes = 2});
  EXPECT_EQ(Board::Open({.ranks = 3, .job = job, .processes = 2}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Board::Open({.ranks = 1, .job = "a/b"}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Board::Open({.ranks = 0}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Board::Open({.ranks = 1, .job = job, .directory = "/nowhere"}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Exists(job));  // a stranger neither removes the file nor takes the place of a process of the job
  first.reset();
  EXPECT_FALSE(Exists(job));
}

TEST(Board, AFailedStartLeavesNoFile) {
  const std::string job = JobName("failed");
  OpenBoard({.ranks = 2, .job = job, .processes = 2});
  EXPECT_FALSE(Exists(job));
}

}  // namespace
}  // namespace lycia
