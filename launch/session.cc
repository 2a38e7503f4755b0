#include "launch/session.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "bazel/build_config.h"
#include "launch/cli.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/comm/transports.h"
#include "runtime/device/gpus.h"
#include "runtime/trace/board_link.h"
#include "runtime/trace/nvtx_cuda.h"

namespace lycia {
namespace {

constexpr std::int64_t kHostNameBytes = 64;

std::string HostName() {
  char name[kHostNameBytes] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

// Numeric IPv4 address of this host's name, for the board's links; loopback when the name does not resolve.
std::string HostAddress() {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  char text[INET_ADDRSTRLEN] = "127.0.0.1";
  if (::getaddrinfo(HostName().c_str(), nullptr, &hints, &found) == 0 && found != nullptr) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(found->ai_addr)->sin_addr, text, sizeof text);
    ::freeaddrinfo(found);
  }
  return text;
}

// The first message of every rank: where it runs.
StatusOr<std::vector<std::string>> GatherHosts(Communicator& world) {
  std::vector<char> names(static_cast<std::size_t>(world.size()) * kHostNameBytes);
  char mine[kHostNameBytes] = {};
  std::strncpy(mine, HostName().c_str(), sizeof mine - 1);
  LYCIA_RETURN_IF_ERROR(world
                            .AllGather({.in = ConstTensor(mine, DType::kU8, {kHostNameBytes}),
                                        .out = Tensor{names.data(), DType::kU8, {static_cast<std::int64_t>(names.size())}},
                                        .tag = Tag::kSetup},
                                       {})
                            .Wait());
  std::vector<std::string> hosts;
  for (int r = 0; r < world.size(); ++r) hosts.emplace_back(names.data() + r * kHostNameBytes);
  return hosts;
}

// What rank 0 makes up and everybody must know to find the board.
struct BoardKey {
  std::uint64_t job = 0;
  LinkToken token{};
  std::int64_t port = 0;
  char address[kHostNameBytes] = {};
};

// The board of an MPI job: shared memory on each host; links from the leader (lowest rank) of each host to rank 0's.
class MpiBoard {
 public:
  Status Open(Communicator& world, const SessionOptions& options) {
    LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> hosts, GatherHosts(world));
    const auto rank = static_cast<std::size_t>(world.rank());
    const auto here = static_cast<int>(std::count(hosts.begin(), hosts.end(), hosts[rank]));
    const bool leader = std::find(hosts.begin(), hosts.end(), hosts[rank]) == hosts.begin() + world.rank();
    std::vector<std::string> distinct = hosts;
    std::sort(distinct.begin(), distinct.end());
    const auto num_hosts = static_cast<int>(std::unique(distinct.begin(), distinct.end()) - distinct.begin());

    BoardKey key;
    if (world.rank() == 0) {
      std::random_device random;
      auto word = [&random] { return static_cast<std::uint64_t>(random()) << 32 | random(); };
      key.job = word();
      key.token = {word(), word()};
      std::strncpy(key.address, (options.board_address.empty() ? HostAddress() : options.board_address).c_str(), sizeof key.address - 1);
    }
    LYCIA_RETURN_IF_ERROR(Share(world, key));
    StatusOr<std::unique_ptr<Board>> board =
        Board::Open({.ranks = world.size(), .job = absl::StrFormat("lycia-%016x", key.job), .processes = here});
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(world, board.status()));  // before the next collective: all go on, or none
    board_ = *std::move(board);
    if (num_hosts == 1) return OkStatus();
    Status listening = OkStatus();
    if (world.rank() == 0) {
      StatusOr<std::unique_ptr<BoardHub>> hub =
          BoardHub::Listen(board_.get(), {.address = key.address, .port = 0, .token = key.token, .hosts = num_hosts});
      listening = hub.status();
      if (hub.ok()) {
        hub_ = *std::move(hub);
        key.port = hub_->port();
      }
    }
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(world, listening));
    LYCIA_RETURN_IF_ERROR(Share(world, key));
    if (leader && world.rank() != 0) {
      LYCIA_ASSIGN_OR_RETURN(
          link_, BoardLink::Connect(board_.get(), {.address = key.address, .port = static_cast<int>(key.port), .token = key.token}));
    }
    return OkStatus();
  }
  Board* board() { return board_.get(); }

 private:
  static Status Share(Communicator& world, BoardKey& key) {
    return world.Broadcast(Tensor{&key, DType::kU8, {static_cast<std::int64_t>(sizeof key)}}, 0, Tag::kSetup, {}).Wait();
  }
  std::unique_ptr<Board> board_;
  std::unique_ptr<BoardHub> hub_;
  std::unique_ptr<BoardLink> link_;
};

// True on one rank of the job: what follows from the first failure is not told. Waits, but not for long, until the other rank has told.
bool MayTell(Board* board, int rank) {
  constexpr int kPolls = 50;
  constexpr std::chrono::milliseconds kPoll{20};
  for (int poll = 0; poll < kPolls; ++poll) {
    const Board::Claim claim = board->ClaimReport(rank);
    if (claim != Board::Claim::kUndecided) return claim == Board::Claim::kMine;
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

// Looks every kDeathPoll, in set-up and report too, where no wait is under the watchdog. The first rank to see it prints.
//   died     names a rank of this host whose process has died: the launcher says at most that one has, and ends the others before their
//            watchdog's deadline.
//   silent   ends the job where a rank has not beaten for longer than the deadline, and no watchdog has said so.
class DeathWatch {
 public:
  DeathWatch(Board* board, int rank, std::int64_t deadline_ns)
      : board_(board), rank_(rank), deadline_ns_(deadline_ns), thread_([this] { Watch(); }) {}
  ~DeathWatch() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

 private:
  static constexpr std::chrono::milliseconds kDeathPoll{200};
  static constexpr std::chrono::seconds kStopped{1};               // this long between two polls: this process did not run itself
  static constexpr std::int64_t kWatchdogFirstNs = 2'000'000'000;  // a watchdog, where one waits, finds out at the deadline

  void Watch() {
    using Clock = std::chrono::steady_clock;
    Clock::time_point last = Clock::now(), running_since = last;
    std::unique_lock<std::mutex> lock(mutex_);
    while (!wake_.wait_for(lock, kDeathPoll, [this] { return stop_; })) {
      const Clock::time_point now = Clock::now();
      if (now - last > kStopped) running_since = now;
      last = now;
      const std::vector<BoardRow> rows = board_->Snapshot();
      for (const BoardRow& row : rows) {
        if (Died(row) && Told(row)) return;
      }
      const std::int64_t patience_ns = deadline_ns_ + kWatchdogFirstNs;
      if (deadline_ns_ <= 0 || now - running_since < std::chrono::nanoseconds(patience_ns)) continue;
      if (std::any_of(rows.begin(), rows.end(), [&](const BoardRow& row) { return Silent(row, patience_ns); })) EndJob(rows);
    }
  }
  static bool Silent(const BoardRow& row, std::int64_t patience_ns) {
    return row.state == RankState::kAbsent || (row.state == RankState::kRunning && row.heartbeat_age_ns > patience_ns);
  }
  void EndJob(const std::vector<BoardRow>& rows) {
    if (board_->ClaimReport(rank_) != Board::Claim::kMine) return;
    std::fprintf(stderr, "lycia: the job hangs: %s\nseen by rank %d:\n%s", Diagnose(rows, deadline_ns_).line.c_str(), rank_,
                 BoardTable(rows).c_str());
    std::fflush(nullptr);
    board_->ReportDone();
    MpiAbort(kExitFailure);
  }
  static bool Died(const BoardRow& row) {
    if (row.state != RankState::kRunning || row.host != HostName() || row.heartbeat_age_ns < 3 * kHeartbeatNs) return false;
    return ::kill(static_cast<pid_t>(row.pid), 0) != 0 && errno == ESRCH;
  }
  bool Told(const BoardRow& row) {
    const Board::Claim claim = board_->ClaimReport(rank_);
    if (claim == Board::Claim::kMine) {
      std::fprintf(stderr, "lycia: rank %d (host %s, pid %d) has died; its last instruction was %s of step %d\n", row.rank,
                   row.host.c_str(), static_cast<int>(row.pid), row.instruction.c_str(), static_cast<int>(row.step));
      board_->ReportDone();
    }
    return claim != Board::Claim::kUndecided;
  }

  Board* board_;
  int rank_;
  std::int64_t deadline_ns_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;  // guarded by mutex_
  std::thread thread_;
};

std::int64_t DeadlineNs(const SessionOptions& options) { return static_cast<std::int64_t>(options.deadline_seconds * 1e9); }

Status RunOneRank(Session session, const SessionOptions& options, const std::function<Status(Session&)>& body) {
  Watchdog watchdog(session.board, session.rank(), {.deadline_ns = DeadlineNs(options)});
  session.watchdog = &watchdog;
  session.board->Join(session.rank());
  session.board->Publish(session.rank(), "set-up", 0);
  Status status = body(session);
  session.board->Leave(session.rank());
  return status;
}

// Which of its host's GPUs is a rank's: its place among the ranks of its host, in turn.
StatusOr<int> GpuOfProcess(Communicator& world) {
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> hosts, GatherHosts(world));
  const auto mine = hosts.begin() + world.rank();
  const auto before = static_cast<int>(std::count(hosts.begin(), mine, *mine));
  LYCIA_ASSIGN_OR_RETURN(const int gpus, CountGpus());
  return before % gpus;
}

// The same ranks over NCCL, which MPI sets up.
StatusOr<std::unique_ptr<Communicator>> OverNccl(std::unique_ptr<Communicator> mpi, int gpu) {
  if constexpr (kNcclEnabled) {
    return nccl::OpenWorld(std::move(mpi), {.device = gpu});
  } else {
    return absl::UnavailableError(StrCat("rank ", mpi->rank(), " on GPU ", gpu,
                                         ": processes move tensors of GPUs by NCCL, which this build has not; install it and build again, "
                                         "or use `lycia train --ranks=N`, whose ranks are threads"));
  }
}

// Collective: all ranks have a GPU and NCCL, or none goes on.
Status MoveToGpus(std::unique_ptr<Communicator>& world, int* gpu) {
  const StatusOr<int> chosen = GpuOfProcess(*world);
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*world, chosen.status()));
  *gpu = *chosen;
  LYCIA_ASSIGN_OR_RETURN(world, OverNccl(std::move(world), *gpu));
  return OkStatus();
}

Status RunMpiRank(const SessionOptions& options, const std::function<Status(Session&)>& body) {
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> world, OpenMpiWorld());
  MpiBoard board;
  Status status = AgreeOnInput(*world, board.Open(*world, options));
  int gpu = 0;
  if (status.ok() && options.cuda) {
    status = MoveToGpus(world, &gpu);
    if (world == nullptr) {
      std::fprintf(stderr, "lycia: %s\n", std::string(status.message()).c_str());
      std::fflush(nullptr);
      MpiAbort(kExitFailure);
      return Status(status.code(), "");
    }
  }
  if (status.ok()) {
    const DeathWatch deaths(board.board(), world->rank(), DeadlineNs(options));
    status = RunOneRank({.world = world.get(), .board = board.board(), .gpu = gpu}, options, body);
  }
  if (status.ok()) return status;
  const int code = ExitCode(status);
  if (code == kExitFailure) {
    // The others wait for this rank: end them all. Whoever comes here first is the cause; the launcher ends the rest.
    if (board.board() == nullptr || MayTell(board.board(), world->rank())) {
      std::fprintf(stderr, "lycia: rank %d on %s: %s\n", world->rank(), HostName().c_str(), std::string(status.message()).c_str());
      std::fflush(nullptr);
      if (board.board() != nullptr) board.board()->ReportDone();
    }
    MpiAbort(code);
  }
  // Before any rank ends: the launcher throws away what ranks say after one of them has ended with an exit code.
  if (world->rank() == 0) std::fprintf(stderr, "%s: %s\n", options.command.c_str(), std::string(status.message()).c_str());
  return Status(status.code(), "");
}

}  // namespace

Status RunRanks(const SessionOptions& options, const std::function<Status(Session&)>& body) {
  if (options.thread_ranks == 0 && StartedByMpi()) return RunMpiRank(options, body);
  const int ranks = std::max(1, options.thread_ranks);
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Board> board, Board::Open({.ranks = ranks}));
  std::vector<int> gpu_of_rank(static_cast<std::size_t>(ranks), 0);
  if (options.cuda) {
    LYCIA_ASSIGN_OR_RETURN(const int gpus, CountGpus());
    for (int rank = 0; rank < ranks; ++rank) gpu_of_rank[static_cast<std::size_t>(rank)] = rank % gpus;
  }
  const auto run = [&](Communicator& world) {
    const int gpu = gpu_of_rank[static_cast<std::size_t>(world.rank())];
    const Status status = RunOneRank({.world = &world, .board = board.get(), .threads = true, .gpu = gpu}, options, body);
    if (status.ok() || ExitCode(status) != kExitFailure) return status;
    return Annotate(status, StrCat("rank ", world.rank()));
  };
  return options.cuda ? RunCudaThreadRanks(gpu_of_rank, run) : RunThreadRanks(ranks, run);
}

Status AgreeOnInput(Communicator& world, const Status& mine) {
  constexpr std::int64_t kMessageBytes = 1024;
  std::vector<std::int64_t> bad(static_cast<std::size_t>(world.size()));
  const std::int64_t flag = mine.ok() ? 0 : 1;
  LYCIA_RETURN_IF_ERROR(
      world
          .AllGather(
              {.in = ConstTensor(&flag, DType::kI64, {1}), .out = Tensor{bad.data(), DType::kI64, {world.size()}}, .tag = Tag::kSetup}, {})
          .Wait());
  const auto first = std::find(bad.begin(), bad.end(), 1);
  if (first == bad.end()) return OkStatus();
  char message[kMessageBytes] = {};
  std::strncpy(message, std::string(mine.message()).c_str(), sizeof message - 1);
  LYCIA_RETURN_IF_ERROR(
      world.Broadcast(Tensor{message, DType::kU8, {kMessageBytes}}, static_cast<int>(first - bad.begin()), Tag::kSetup, {}).Wait());
  return absl::InvalidArgumentError(message);
}

namespace {

// The message that an instruction sends or receives has one id on both sides: replica, pipe, boundary and direction, micro-batch, part.
// Boundary s lies between stages s and s + 1.
std::uint64_t MessageId(const schedule::Instruction& instruction, int replica) {
  using schedule::Op;
  const bool gradient = instruction.op == Op::kSendGradient || instruction.op == Op::kReceiveGradient;
  const bool after = instruction.op == Op::kSendActivation || instruction.op == Op::kReceiveGradient;  // the boundary after its stage
  const int boundary = after ? instruction.stage : instruction.stage - 1;
  return FlowId(replica, 2 * boundary + (gradient ? 1 : 0), instruction.pipe,
                static_cast<std::uint64_t>(instruction.micro_batch) << 8 | instruction.part);
}

}  // namespace

void SessionObserver::Begin(const schedule::Instruction& instruction, const std::string& text) {
  session_->board->Publish(session_->rank(), text, step_);
  using schedule::Op;
  const Lane lane = instruction.op == Op::kGradientSync || instruction.op == Op::kUpdate ? Lane::kSync
                    : schedule::IsCompute(instruction.op)                                ? Lane::kCompute
                                                                                         : Lane::kMessages;
  SpanRecorder::Start span{.name = text, .lane = lane, .instruction = next_++, .step = static_cast<std::int32_t>(step_)};
  if (instruction.op == Op::kSendActivation || instruction.op == Op::kSendGradient) span.flow_out = MessageId(instruction, replica_);
  if (instruction.op == Op::kReceiveActivation || instruction.op == Op::kReceiveGradient) span.flow_in = MessageId(instruction, replica_);
  open_ = recorder_.Begin(span);
  if constexpr (kCudaEnabled) cuda::BeginNvtxRange(text.c_str());
}

void SessionObserver::End(const schedule::Instruction&) {
  if constexpr (kCudaEnabled) cuda::EndNvtxRange();
  recorder_.End(open_);
}

StatusOr<std::vector<RankSpans>> GatherSpans(Communicator& world, const RankSpans& mine, WaitGuard* guard) {
  const std::string bytes = SerializeSpans(mine);
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(world.size()) + 1);
  const auto size = static_cast<std::int64_t>(bytes.size());
  LYCIA_RETURN_IF_ERROR(world
                            .AllGather({.in = ConstTensor(&size, DType::kI64, {1}),
                                        .out = Tensor{offsets.data() + 1, DType::kI64, {world.size()}},
                                        .tag = Tag::kMetrics},
                                       {})
                            .Wait(guard));
  for (std::size_t r = 1; r < offsets.size(); ++r) offsets[r] += offsets[r - 1];
  std::string all(static_cast<std::size_t>(offsets.back()), '\0');
  LYCIA_RETURN_IF_ERROR(world
                            .AllGather({.in = ConstTensor(bytes.data(), DType::kU8, {size}),
                                        .out = Tensor{all.data(), DType::kU8, {offsets.back()}},
                                        .offsets = offsets,
                                        .tag = Tag::kMetrics},
                                       {})
                            .Wait(guard));
  std::vector<RankSpans> ranks;
  if (world.rank() != 0) return ranks;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
    const auto begin = static_cast<std::size_t>(offsets[r]), end = static_cast<std::size_t>(offsets[r + 1]);
    LYCIA_ASSIGN_OR_RETURN(RankSpans spans, ParseSpans(std::string_view(all).substr(begin, end - begin)));
    ranks.push_back(std::move(spans));
  }
  return ranks;
}

}  // namespace lycia
