#include "runtime/trace/board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/trace/board_memory.h"

namespace lycia {
namespace {

std::string HostName() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

Status SystemError(const std::string& path, const char* what, int error) {
  return absl::UnavailableError(absl::StrCat("board file ", path, " cannot be ", what, ": ", std::strerror(error)));
}

// Maps the job's file, which the first process to come makes.
StatusOr<void*> MapFile(const std::string& path, std::size_t bytes) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file < 0) return SystemError(path, "opened", errno);
  struct stat about;
  Status status;
  void* memory = MAP_FAILED;
  if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode) || about.st_uid != geteuid()) {
    status = absl::UnavailableError(absl::StrCat("board file ", path, " belongs to another user or is no file; remove it"));
  } else if (const int error = posix_fallocate(file, 0, static_cast<off_t>(bytes)); error != 0) {  // a full /dev/shm is found here
    status = SystemError(path, "given its size", error);
  } else if (memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0); memory == MAP_FAILED) {
    status = SystemError(path, "mapped", errno);
  }
  close(file);
  if (!status.ok()) return status;
  return memory;
}

// Sets `field` to `value` if it is still 0; false if it holds another value.
template <typename T>
bool Agree(std::atomic<T>& field, T value) {
  T found = 0;
  return field.compare_exchange_strong(found, value, std::memory_order_acq_rel) || found == value;
}

}  // namespace

StatusOr<std::unique_ptr<Board>> Board::Open(const BoardOptions& options) {
  if (options.ranks < 1 || options.processes < 1 || options.job.find('/') != std::string::npos) {
    return InvalidArgument("a board needs ranks >= 1, processes >= 1 and a job name without '/', got ", options.ranks, ", ",
                           options.processes, ", '", options.job, "'");
  }
  std::unique_ptr<Board> board(new Board);
  board->ranks_ = options.ranks;
  board->processes_ = options.processes;
  board->bytes_ = BoardMemory::Bytes(options.ranks);
  void* memory = nullptr;
  if (options.job.empty()) {
    memory = mmap(nullptr, board->bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return absl::ResourceExhaustedError(absl::StrCat("no memory for a board of ", board->bytes_, " bytes"));
  } else {
    const std::string path = absl::StrCat(options.directory, "/", options.job);
    LYCIA_ASSIGN_OR_RETURN(memory, MapFile(path, board->bytes_));
    board->path_ = path;
  }
  // Zero bytes are a valid empty board: no process needs to be first.
  board->memory_ = static_cast<BoardMemory*>(memory);
  BoardMemory& shared = *board->memory_;
  const bool same = Agree(shared.magic, BoardMemory::kMagic) && Agree(shared.ranks, std::int64_t{options.ranks});
  const std::int64_t attached = shared.attached.fetch_add(1) + 1;
  if (!same || attached > options.processes) {
    shared.attached.fetch_sub(1);
    const std::string path = std::exchange(board->path_, "");  // not ours: leave it
    return absl::UnavailableError(absl::StrCat("board file ", path, " is of another job (process ", attached, " of ", options.processes,
                                               ", ", shared.ranks.load(), " ranks); use a job name of its own"));
  }
  if (attached == options.processes && !board->path_.empty()) unlink(board->path_.c_str());
  board->heart_ = std::thread([self = board.get()] { self->Beat(); });
  return board;
}

Board::~Board() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (heart_.joinable()) heart_.join();
  if (memory_ == nullptr) return;
  if (!path_.empty() && memory_->attached.load() < processes_) unlink(path_.c_str());  // the start failed; leave no file behind
  munmap(memory_, bytes_);
}

void Board::Beat() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    const std::int64_t now = MonotonicNs();
    for (const int rank : mine_) memory_->rows[rank].heartbeat_ns.store(now, std::memory_order_release);
    // wait_until on the system clock: ThreadSanitizer of GCC 12 does not see pthread_cond_clockwait.
    wake_.wait_until(lock, std::chrono::system_clock::now() + std::chrono::nanoseconds(kHeartbeatNs));
  }
}

void Board::Join(int rank) {
  LYCIA_CHECK(rank >= 0 && rank < ranks_) << "rank " << rank << " of " << ranks_ << " ";
  const std::int64_t now = MonotonicNs();
  WriteRow(memory_->rows[rank], {.instruction = "start",
                                 .host = HostName(),
                                 .instruction_since_ns = now,
                                 .heartbeat_ns = now,
                                 .pid = getpid(),
                                 .state = RankState::kRunning,
                                 .origin = RowOrigin::kThisHost});
  std::lock_guard<std::mutex> lock(mutex_);
  mine_.push_back(rank);
}

void Board::Leave(int rank) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    mine_.erase(std::remove(mine_.begin(), mine_.end(), rank), mine_.end());
  }
  memory_->rows[rank].state.store(static_cast<std::uint32_t>(RankState::kLeft), std::memory_order_release);
}

void Board::Publish(int rank, std::string_view instruction, std::int64_t step) {
  StoreInstruction(memory_->rows[rank], instruction, step, MonotonicNs());
}

void Board::Waiting(int rank, std::int64_t waited_ns) {
  AtomicRow& row = memory_->rows[rank];
  const std::int64_t now = MonotonicNs();
  row.wait_since_ns.store(now - waited_ns, std::memory_order_release);
  row.wait_seen_ns.store(now, std::memory_order_release);
}

std::vector<BoardRow> Board::Snapshot() const {
  std::vector<BoardRow> rows(static_cast<std::size_t>(ranks_));
  for (int rank = 0; rank < ranks_; ++rank) {
    const RowCopy copy = ReadRow(memory_->rows[rank]);
    const std::int64_t now = MonotonicNs();
    BoardRow& row = rows[static_cast<std::size_t>(rank)];
    row.rank = rank;
    row.state = copy.state;
    row.host = copy.host;
    row.here = copy.origin == RowOrigin::kThisHost;
    row.pid = copy.pid;
    row.step = copy.step;
    row.instruction = copy.instruction;
    row.whole = copy.whole;
    row.instruction_age_ns = std::max<std::int64_t>(now - copy.instruction_since_ns, 0);
    // Judged by its own heartbeat: a stopped process stays in the state in which it was stopped.
    row.waiting = copy.wait_seen_ns != 0 && copy.heartbeat_ns - copy.wait_seen_ns < kWaitLeaseNs;
    row.wait_age_ns = row.waiting ? std::max<std::int64_t>(now - copy.wait_since_ns, 0) : 0;
    row.heartbeat_age_ns = std::max<std::int64_t>(now - copy.heartbeat_ns, 0);
  }
  return rows;
}

Board::Claim Board::ClaimReport(int rank) {
  const std::int64_t me = rank + 1;
  const auto settle = [&] { return memory_->reported.load() != 0 ? Claim::kOthers : Claim::kUndecided; };
  if (!Agree(memory_->reporter, me)) return settle();
  switch (memory_->link.load()) {
    case BoardMemory::kNoHub:
      return Claim::kMine;
    case BoardMemory::kHub:
      return Agree(memory_->job_reporter, me) ? Claim::kMine : settle();
    case BoardMemory::kHubLost:
      return memory_->reported.load() != 0 ? Claim::kOthers : Claim::kMine;  // nobody can settle it: each host tells
    default:
      return memory_->job_reporter.load() == me ? Claim::kMine : settle();  // the link asks the hub
  }
}

void Board::ReportDone() { memory_->reported.store(1); }
bool Board::Reported() const { return memory_->reported.load() != 0; }

}  // namespace lycia
