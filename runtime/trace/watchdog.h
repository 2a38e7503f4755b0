// Watchdog: turns a hang into an error that names who hangs and in which instruction.
//
// A wait that lasts longer than the deadline is judged by the board (Diagnose). It is a hang only if the job has stopped moving:
//   1. a rank's process no longer beats (stopped, dead) or never joined: those ranks are named; else
//   2. a rank computes and its instruction is older than the deadline: the oldest is named; else
//   3. every rank waits and no rank has begun an instruction within the deadline: the one that has waited longest is named.
// A rank that is slow but begins new instructions is none of these, so it is waited for, however long that takes. Time that this process
// itself spent stopped (the whole job suspended) starts the deadline anew.
#ifndef LYCIA_RUNTIME_TRACE_WATCHDOG_H_
#define LYCIA_RUNTIME_TRACE_WATCHDOG_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/device/event.h"
#include "runtime/trace/board.h"

namespace lycia {

struct Diagnosis {
  std::vector<int> culprits;  // ranks; empty: the job is moving
  std::string line;           // one sentence: who, in what, since when, where
};
Diagnosis Diagnose(std::span<const BoardRow> rows, std::int64_t deadline_ns);

// One line a rank: rank, host, pid, step, instruction, for how long, computing or waiting, age of the heartbeat.
std::string BoardTable(std::span<const BoardRow> rows);

class Watchdog final : public WaitGuard {
 public:
  struct Options {
    std::int64_t deadline_ns = 60'000'000'000;  // 0: never judges, only publishes that the rank waits
    std::function<void(std::string_view)> print;  // of the report; empty: to stderr
  };
  // One per rank, used by its thread; the board outlives it and the rank has joined it.
  Watchdog(Board* board, int rank, Options options) : board_(board), rank_(rank), options_(std::move(options)) {}

  // DeadlineExceeded with the diagnosis once the job hangs; the first rank of the job to find out prints the table of all ranks.
  Status StillWaiting(std::int64_t waited_ns) override;

 private:
  Board* board_;
  int rank_;
  Options options_;
  // All in waited time of the current wait.
  std::int64_t last_poll_ns_ = 0;
  std::int64_t next_check_ns_ = 0;
  std::int64_t undecided_until_ns_ = 0;  // 0: no verdict yet; then: when to print without a decided claim
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_TRACE_WATCHDOG_H_
