#include "runtime/trace/watchdog.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace lycia {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000, kSecond = 1'000'000'000;
constexpr std::int64_t kCheckNs = 100 * kMillisecond;   // between judgements past the deadline
constexpr std::int64_t kStoppedNs = kSecond;            // this long between two polls: this process did not run
constexpr std::int64_t kClaimNs = kSecond;              // patience for the other hosts' word on who prints

// A heartbeat older than this is a process that does not run: half the deadline, but neither a hiccup nor an age.
std::int64_t StaleNs(std::int64_t deadline_ns) { return std::clamp(deadline_ns / 2, kSecond / 2, 5 * kSecond); }

std::string Seconds(std::int64_t ns) { return absl::StrFormat("%.1f s", static_cast<double>(ns) * 1e-9); }

std::string Who(const BoardRow& row) {
  if (row.state == RankState::kAbsent) return absl::StrCat("rank ", row.rank);
  return absl::StrCat("rank ", row.rank, " (host ", row.host, ", pid ", row.pid, ")");
}

std::string What(const BoardRow& row) { return absl::StrCat(row.instruction, " of step ", row.step); }

std::string Lost(const BoardRow& row) {
  if (row.state == RankState::kAbsent) return Who(row) + " never started";
  const std::string age = Seconds(row.heartbeat_age_ns);
  return absl::StrCat(Who(row), " is stopped or dead: no heartbeat for ", age, ", its last instruction was ", What(row));
}

}  // namespace

Diagnosis Diagnose(std::span<const BoardRow> rows, std::int64_t deadline_ns) {
  Diagnosis diagnosis;
  std::vector<std::string> lost;
  const BoardRow* slowest = nullptr;  // computing, in the oldest instruction
  const BoardRow* waiter = nullptr;   // the oldest wait
  std::int64_t newest_ns = -1;        // age of the newest instruction
  for (const BoardRow& row : rows) {
    if (row.state == RankState::kLeft) continue;
    if (row.state == RankState::kAbsent || row.heartbeat_age_ns > StaleNs(deadline_ns)) {
      diagnosis.culprits.push_back(row.rank);
      lost.push_back(Lost(row));
      continue;
    }
    if (newest_ns < 0 || row.instruction_age_ns < newest_ns) newest_ns = row.instruction_age_ns;
    const BoardRow*& place = row.waiting ? waiter : slowest;
    const auto age = [](const BoardRow& of) { return of.waiting ? of.wait_age_ns : of.instruction_age_ns; };
    if (place == nullptr || age(row) > age(*place)) place = &row;
  }
  if (!lost.empty()) {
    diagnosis.line = absl::StrJoin(lost, "; ");
  } else if (slowest != nullptr && slowest->instruction_age_ns > deadline_ns) {
    diagnosis.culprits = {slowest->rank};
    diagnosis.line = absl::StrCat(Who(*slowest), " hangs in ", What(*slowest), ": computing for ", Seconds(slowest->instruction_age_ns),
                                  " without a new instruction");
  } else if (slowest == nullptr && waiter != nullptr && newest_ns > deadline_ns) {
    diagnosis.culprits = {waiter->rank};
    diagnosis.line = absl::StrCat("every rank waits for another one; longest ", Who(*waiter), ", for ", Seconds(waiter->wait_age_ns),
                                  " in ", What(*waiter), " (a lost message, or operations in different orders)");
  }
  return diagnosis;
}

std::string BoardTable(std::span<const BoardRow> rows) {
  std::string text = absl::StrFormat("%5s  %-16s %8s %8s  %-32s %10s  %-20s %s\n", "rank", "host", "pid", "step", "instruction", "for",
                                     "state", "heartbeat");
  for (const BoardRow& row : rows) {
    if (row.state == RankState::kAbsent) {
      absl::StrAppend(&text, absl::StrFormat("%5d  %-16s\n", row.rank, "never started"));
      continue;
    }
    const std::string state = row.state == RankState::kLeft ? "left"
                              : row.waiting                 ? absl::StrCat("waiting ", Seconds(row.wait_age_ns))
                                                            : "computing";
    absl::StrAppend(&text, absl::StrFormat("%5d  %-16s %8d %8d  %-32s %10s  %-20s %s ago\n", row.rank, row.host, row.pid, row.step,
                                           row.instruction, Seconds(row.instruction_age_ns), state, Seconds(row.heartbeat_age_ns)));
  }
  return text;
}

Status Watchdog::StillWaiting(std::int64_t waited_ns) {
  if (waited_ns < last_poll_ns_ || waited_ns == 0 || last_poll_ns_ == 0) {  // a new wait, or the first
    next_check_ns_ = options_.deadline_ns;
    undecided_until_ns_ = 0;
  } else if (waited_ns - last_poll_ns_ > kStoppedNs) {
    next_check_ns_ = waited_ns + options_.deadline_ns;
  }
  last_poll_ns_ = waited_ns;
  board_->Waiting(rank_, waited_ns);
  if (options_.deadline_ns <= 0 || waited_ns < next_check_ns_) return OkStatus();

  const std::vector<BoardRow> rows = board_->Snapshot();
  const Diagnosis diagnosis = Diagnose(rows, options_.deadline_ns);
  next_check_ns_ = waited_ns + kCheckNs;
  if (diagnosis.culprits.empty()) return OkStatus();

  const Board::Claim claim = board_->ClaimReport(rank_);
  if (undecided_until_ns_ == 0) undecided_until_ns_ = waited_ns + kClaimNs;
  if (claim == Board::Claim::kUndecided && waited_ns < undecided_until_ns_) return OkStatus();
  if (claim != Board::Claim::kOthers) {
    const std::string report = absl::StrCat("lycia: the job hangs: ", diagnosis.line, "\nseen by rank ", rank_, " after a wait of ",
                                            Seconds(waited_ns), " (deadline ", Seconds(options_.deadline_ns), "):\n", BoardTable(rows));
    if (options_.print) {
      options_.print(report);
    } else {
      std::fwrite(report.data(), 1, report.size(), stderr);
      std::fflush(stderr);
    }
    board_->ReportDone();
  }
  return absl::DeadlineExceededError(absl::StrCat("the job hangs: ", diagnosis.line));
}

}  // namespace lycia
