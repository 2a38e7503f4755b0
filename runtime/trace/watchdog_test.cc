// The watchdog must name the rank that hangs, once, and must not raise an alarm while the job moves, however slowly.
#include "runtime/trace/watchdog.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lycia {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t kMs = 1'000'000, kSecond = 1'000'000'000;

void Sleep(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

BoardRow Computing(int rank, std::int64_t age_ns) {
  return {.rank = rank, .state = RankState::kRunning, .host = "node", .pid = 100 + rank, .step = 7, .instruction = "p0.1F3",
          .instruction_age_ns = age_ns};
}
BoardRow WaitingFor(int rank, std::int64_t age_ns) {
  BoardRow row = Computing(rank, age_ns);
  row.instruction = "p0.2RECVF3";
  row.waiting = true;
  row.wait_age_ns = age_ns;
  return row;
}
BoardRow Silent(BoardRow row, std::int64_t age_ns) {
  row.heartbeat_age_ns = age_ns;
  return row;
}
BoardRow Left(int rank) {
  BoardRow row = Silent(Computing(rank, 1000 * kSecond), 1000 * kSecond);
  row.state = RankState::kLeft;
  return row;
}

TEST(Diagnose, ASilentProcessComesBeforeEverythingElse) {
  const std::vector<BoardRow> rows = {WaitingFor(0, 20 * kSecond), Silent(WaitingFor(1, 15 * kSecond), 12 * kSecond),
                                      Computing(2, 30 * kSecond)};
  const Diagnosis diagnosis = Diagnose(rows, 10 * kSecond);
  EXPECT_THAT(diagnosis.culprits, ElementsAre(1));
  EXPECT_THAT(diagnosis.line, HasSubstr("rank 1 (host node, pid 101) is stopped or dead: no heartbeat for 12.0 s"));
  EXPECT_THAT(diagnosis.line, HasSubstr("its last instruction was p0.2RECVF3 of step 7"));
}

TEST(Diagnose, ThenTheRankThatComputesLongest) {
  const Diagnosis diagnosis =
      Diagnose(std::vector{WaitingFor(0, 60 * kSecond), Computing(1, 11 * kSecond), Computing(2, 12 * kSecond), Left(3)}, 10 * kSecond);
  EXPECT_THAT(diagnosis.culprits, ElementsAre(2));
  EXPECT_THAT(diagnosis.line, HasSubstr("rank 2 (host node, pid 102) hangs in p0.1F3 of step 7: computing for 12.0 s"));
}

TEST(Diagnose, ThenTheOldestOfThoseWhoAllWait) {
  const Diagnosis diagnosis = Diagnose(std::vector{WaitingFor(0, 11 * kSecond), WaitingFor(1, 13 * kSecond), Left(2)}, 10 * kSecond);
  EXPECT_THAT(diagnosis.culprits, ElementsAre(1));
  EXPECT_THAT(diagnosis.line, HasSubstr("every rank waits"));
  EXPECT_THAT(diagnosis.line, HasSubstr("rank 1 (host node, pid 101), for 13.0 s in p0.2RECVF3"));
}

TEST(Diagnose, AMovingJobIsNotAHang) {
  // Somebody computes and began not long ago.
  EXPECT_THAT(Diagnose(std::vector{WaitingFor(0, 60 * kSecond), Computing(1, 9 * kSecond)}, 10 * kSecond).culprits, IsEmpty());
  // All wait, but one began its instruction a moment ago: its message is on its way.
  EXPECT_THAT(Diagnose(std::vector{WaitingFor(0, 60 * kSecond), WaitingFor(1, 1 * kSecond)}, 10 * kSecond).culprits, IsEmpty());
  // A late heartbeat is a busy machine.
  EXPECT_THAT(Diagnose(std::vector{WaitingFor(0, 60 * kSecond), Silent(Computing(1, 1 * kSecond), 4 * kSecond)}, 10 * kSecond).culprits,
              IsEmpty());
  EXPECT_THAT(Diagnose(std::vector{Left(0), Left(1)}, 10 * kSecond).culprits, IsEmpty());
}

TEST(Diagnose, ARankThatNeverCame) {
  BoardRow absent;
  absent.rank = 1;
  const Diagnosis diagnosis = Diagnose(std::vector{WaitingFor(0, 60 * kSecond), absent}, 10 * kSecond);
  EXPECT_THAT(diagnosis.culprits, ElementsAre(1));
  EXPECT_THAT(diagnosis.line, HasSubstr("rank 1 never started"));
  EXPECT_THAT(BoardTable(std::vector{absent}), HasSubstr("never started"));
}

// `ranks` ranks on one board that wait as threads under watchdogs; all reports are collected.
struct Job {
  std::unique_ptr<Board> board;
  std::mutex mutex;
  std::vector<std::string> reports;

  explicit Job(int ranks) : board(std::move(*Board::Open({.ranks = ranks}))) {
    for (int rank = 0; rank < ranks; ++rank) board->Join(rank);
  }
  Watchdog::Options Options(std::int64_t deadline_ns) {
    return {.deadline_ns = deadline_ns, .print = [this](std::string_view text) {
              std::lock_guard<std::mutex> lock(mutex);
              reports.emplace_back(text);
            }};
  }
};

TEST(Watchdog, NamesTheRankThatHangsInAnInstructionOnce) {
  Job job(3);
  HostEventSource never;
  std::atomic<bool> release{false};
  Status statuses[2];
  std::vector<std::thread> threads;
  threads.emplace_back([&] {  // rank 2 hangs in its instruction
    job.board->Publish(2, "p1.2F0", 4);
    while (!release.load()) Sleep(5);
  });
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      job.board->Publish(rank, rank == 0 ? "p0.0RECVB0" : "SYNC{0,3}", 4);
      Watchdog watchdog(job.board.get(), rank, job.Options(400 * kMs));
      statuses[rank] = never.Wait(1, &watchdog);
    });
  }
  threads[1].join();
  threads[2].join();
  release = true;
  threads[0].join();
  for (const Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 2 "));
    EXPECT_THAT(std::string(status.message()), HasSubstr("hangs in p1.2F0 of step 4"));
  }
  ASSERT_EQ(job.reports.size(), 1u);
  for (const char* instruction : {"p0.0RECVB0", "SYNC{0,3}", "p1.2F0"}) EXPECT_THAT(job.reports[0], HasSubstr(instruction));
  EXPECT_THAT(job.reports[0], HasSubstr("waiting"));
  EXPECT_THAT(job.reports[0], HasSubstr("computing"));
}

TEST(Watchdog, WaitsForASlowRankThatMoves) {
  Job job(2);
  HostEventSource source;
  job.board->Publish(0, "p0.0RECVB0", 1);
  std::thread slow([&] {
    for (int i = 0; i < 24; ++i) {
      job.board->Publish(1, StrCat("p0.1F", i), 1);
      Sleep(50);  // 1.2 s in all, against a deadline of 0.4 s
    }
    source.Complete(1);
  });
  Watchdog watchdog(job.board.get(), 0, job.Options(400 * kMs));
  EXPECT_TRUE(source.Wait(1, &watchdog).ok());
  slow.join();
  EXPECT_THAT(job.reports, IsEmpty());
}

TEST(Watchdog, ADeadlockIsToldFromAHang) {
  Job job(2);
  HostEventSource never;
  Status statuses[2];
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      job.board->Publish(rank, "p0.0RECVB0", 4);
      Watchdog watchdog(job.board.get(), rank, job.Options(400 * kMs));
      statuses[rank] = never.Wait(1, &watchdog);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : statuses) EXPECT_THAT(std::string(status.message()), HasSubstr("every rank waits for another one"));
  EXPECT_EQ(job.reports.size(), 1u);
}

TEST(Watchdog, ASuspendedJobStartsItsDeadlineAnew) {
  Job job(2);
  job.board->Publish(0, "a", 1);
  job.board->Publish(1, "b", 1);
  Watchdog watchdog(job.board.get(), 0, job.Options(300 * kMs));
  // The rank that computes has been in its instruction for longer than the deadline: only the discount keeps this from an alarm.
  Sleep(400);
  EXPECT_TRUE(watchdog.StillWaiting(0).ok());
  EXPECT_TRUE(watchdog.StillWaiting(20 * kMs).ok());
  EXPECT_TRUE(watchdog.StillWaiting(100 * kSecond).ok());  // everything stood still in between
  EXPECT_TRUE(watchdog.StillWaiting(100 * kSecond + 250 * kMs).ok());
  EXPECT_EQ(watchdog.StillWaiting(100 * kSecond + 350 * kMs).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(Watchdog, EachWaitHasADeadlineOfItsOwnAndZeroIsNone) {
  Job job(2);
  job.board->Publish(1, "b", 1);
  Sleep(250);  // rank 1 would be named by any wait that is over its deadline
  Watchdog watchdog(job.board.get(), 0, job.Options(200 * kMs));
  for (int wait = 0; wait < 3; ++wait) {
    EXPECT_TRUE(watchdog.StillWaiting(0).ok());
    EXPECT_TRUE(watchdog.StillWaiting(150 * kMs).ok());
  }
  EXPECT_FALSE(watchdog.StillWaiting(210 * kMs).ok());
  Watchdog off(job.board.get(), 0, job.Options(0));
  EXPECT_TRUE(off.StillWaiting(0).ok());
  EXPECT_TRUE(off.StillWaiting(1'000'000 * kSecond).ok());
  EXPECT_TRUE(job.board->Snapshot()[0].waiting);
}

}  // namespace
}  // namespace lycia
