#include "launch/death_watch.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

#include "launch/process_board.h"
#include "runtime/trace/watchdog.h"

namespace lycia {
namespace {

constexpr std::chrono::milliseconds kPoll{200};
constexpr std::chrono::seconds kStopped{1};               // this long between two polls: this process did not run itself
constexpr std::int64_t kWatchdogFirstNs = 2'000'000'000;  // a watchdog, where one waits, finds out at the deadline
constexpr std::chrono::seconds kBrokenPatience{5};        // a wait of the host fails at once, and then this process ends in order
constexpr std::chrono::seconds kReportPatience{3};

// Gone, or a zombie that its parent has not asked for.
bool IsDead(std::int64_t pid) {
  if (::kill(static_cast<pid_t>(pid), 0) != 0) return errno == ESRCH;
  std::ifstream stat(StrCat("/proc/", pid, "/stat"));
  const std::string text(std::istreambuf_iterator<char>(stat), {});
  const std::size_t state = text.rfind(") ");  // behind the program's name, which may hold anything
  return state != std::string::npos && (text[state + 2] == 'Z' || text[state + 2] == 'X');
}

bool Died(const BoardRow& row) {
  return row.state == RankState::kRunning && row.here && row.heartbeat_age_ns > 3 * kHeartbeatNs && IsDead(row.pid);
}

bool Silent(const BoardRow& row, std::int64_t patience_ns) {
  return row.state == RankState::kAbsent || (row.state == RankState::kRunning && row.heartbeat_age_ns > patience_ns);
}

}  // namespace

DeathWatch::~DeathWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool DeathWatch::AwaitReport() const {
  const Clock::time_point deadline = Clock::now() + kReportPatience;
  while (!options_.board->Reported() && Clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return told_;
}

void DeathWatch::Watch() {
  Clock::time_point last = Clock::now(), running_since = last;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, kPoll, [this] { return stop_; })) {
    const Clock::time_point now = Clock::now();
    if (now - last > kStopped) running_since = now;
    last = now;
    const std::vector<BoardRow> rows = options_.board->Snapshot();
    LookForTheDead(rows);
    if (options_.broken != nullptr && options_.broken->load()) {
      if (broken_since_ == Clock::time_point()) broken_since_ = now;
      if (now - broken_since_ > kBrokenPatience) EndBrokenJob();
      continue;
    }
    if (options_.deadline_ns <= 0) continue;
    const std::int64_t patience_ns = options_.deadline_ns + kWatchdogFirstNs;
    if (now - running_since < std::chrono::nanoseconds(patience_ns)) continue;
    if (std::any_of(rows.begin(), rows.end(), [&](const BoardRow& row) { return Silent(row, patience_ns); })) EndSilentJob(rows);
  }
}

Board::Claim DeathWatch::ClaimReport() {
  const Board::Claim claim = options_.board->ClaimReport(options_.rank);
  const Clock::time_point now = Clock::now();
  if (claim != Board::Claim::kUndecided || undecided_since_ == Clock::time_point()) undecided_since_ = now;
  return claim == Board::Claim::kUndecided && now - undecided_since_ > kReportPatience ? Board::Claim::kMine : claim;
}

void DeathWatch::LookForTheDead(std::span<const BoardRow> rows) {
  for (const BoardRow& row : rows) {
    if (known_ || !Died(row)) continue;
    const Board::Claim claim = ClaimReport();
    known_ = claim != Board::Claim::kUndecided;
    if (claim != Board::Claim::kMine) continue;
    told_ = true;
    std::fprintf(stderr, "lycia: rank %d (host %s, pid %d) has died; its last instruction was %s of step %d\n", row.rank, row.host.c_str(),
                 static_cast<int>(row.pid), row.instruction.c_str(), static_cast<int>(row.step));
    options_.board->ReportDone();
  }
}

void DeathWatch::EndSilentJob(std::span<const BoardRow> rows) {
  if (ClaimReport() != Board::Claim::kMine) return;
  std::fprintf(stderr, "lycia: the job hangs: %s\nseen by rank %d:\n%s", Diagnose(rows, options_.deadline_ns).line.c_str(), options_.rank,
               BoardTable(rows).c_str());
  std::fflush(nullptr);
  options_.board->ReportDone();
  options_.end_job();
}

void DeathWatch::EndBrokenJob() {
  const Board::Claim claim = ClaimReport();
  if (claim == Board::Claim::kUndecided) return;  // asked again at the next poll: no job ends without a word
  if (claim == Board::Claim::kMine) {
    std::fprintf(stderr, "lycia: rank %d on %s: a rank of the job is gone, and this one waits for it:\n%s", options_.rank,
                 HostName().c_str(), BoardTable(options_.board->Snapshot()).c_str());
    options_.board->ReportDone();
  }
  std::fflush(nullptr);
  options_.end_job();
}

}  // namespace lycia
