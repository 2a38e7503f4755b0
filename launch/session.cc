#include "launch/session.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "bazel/build_config.h"
#include "launch/cli.h"
#include "launch/death_watch.h"
#include "launch/process_board.h"
#include "launch/process_world.h"
#include "runtime/comm/transports.h"
#include "runtime/device/gpus.h"

namespace lycia {
namespace {

// Of a status that AgreeOnInput has given to all ranks.
constexpr const char* kAgreed = "lycia/agreed";

// Whether the other ranks do not know of it: a failure, or bad input that only this rank has found, in the middle of its work.
bool OfThisRankAlone(const Status& status) {
  return ExitCode(status) == kExitFailure || (absl::IsInvalidArgument(status) && !status.GetPayload(kAgreed));
}

// True on one rank of the job: what follows from the first failure is not told. Waits, but not for long, until the other rank has told.
bool MayTell(Board* board, int rank) {
  constexpr int kPolls = 150;
  constexpr std::chrono::milliseconds kPoll{20};
  for (int poll = 0; poll < kPolls; ++poll) {
    const Board::Claim claim = board->ClaimReport(rank);
    if (claim != Board::Claim::kUndecided) return claim == Board::Claim::kMine;
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

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

// Tells a failure once in the job, and ends the job. told: the cause has been, by this process.
Status FailProcess(const SessionOptions& options, ProcessBoard& board, Communicator* world, int rank, bool told, const Status& status) {
  if (!told && (board.board() == nullptr || MayTell(board.board(), rank))) {
    std::fprintf(stderr, "lycia: rank %d on %s: %s\n", rank, HostName().c_str(), std::string(status.message()).c_str());
    std::fflush(nullptr);
    if (board.board() != nullptr) board.board()->ReportDone();
  }
  // The others wait for this rank. MPI's launcher ends them all; without it, they find the connections of this one broken.
  if (options.launcher.kind == Launcher::Kind::kMpi) MpiAbort(ExitCode(status));
  if (world != nullptr) world->Abort(status);
  board.Linger();
  return Status(status.code(), "");
}

Status RunProcessRank(const SessionOptions& options, const std::function<Status(Session&)>& body) {
  LYCIA_ASSIGN_OR_RETURN(ProcessWorld opened, OpenProcessWorld(options));
  std::unique_ptr<Communicator>& world = opened.world;
  const int rank = world->rank();
  ProcessBoard board;
  Status status = opened.wrong;
  if (status.ok()) {
    const ProcessBoard::Options place{.address = options.board_address, .rendezvous = options.launcher.rendezvous.host};
    status = AgreeOnInput(*world, board.Open(*world, place));
  }
  if (status.ok() && options.cuda && opened.gpu < 0) status = MoveToNccl(options, world, &opened.gpu);
  if (world == nullptr) return FailProcess(options, board, nullptr, rank, /*told=*/false, status);
  std::unique_ptr<DeathWatch> deaths;
  bool alone = ExitCode(status) == kExitFailure;
  if (status.ok()) {
    deaths = std::make_unique<DeathWatch>(DeathWatch::Options{
        .board = board.board(), .rank = rank, .deadline_ns = DeadlineNs(options), .broken = opened.broken.get(), .end_job = [&options] {
          EndJob(options.launcher);
        }});
    status = RunOneRank({.world = world.get(), .board = board.board(), .gpu = std::max(0, opened.gpu)}, options, body);
    alone = OfThisRankAlone(status);
  }
  if (status.ok()) return status;
  if (alone) {
    const bool told = deaths != nullptr && opened.broken->load() && deaths->AwaitReport();
    return FailProcess(options, board, world.get(), rank, told, status);
  }
  // Before any rank ends: the launcher throws away what ranks say after one of them has ended with an exit code.
  if (rank == 0) std::fprintf(stderr, "%s: %s\n", options.command.c_str(), std::string(status.message()).c_str());
  return Status(status.code(), "");
}

StatusOr<std::vector<int>> GpusOfThreads(int ranks) {
  LYCIA_ASSIGN_OR_RETURN(const int gpus, CountGpus());
  std::vector<int> gpu_of_rank;
  for (int rank = 0; rank < ranks; ++rank) gpu_of_rank.push_back(rank % gpus);
  return gpu_of_rank;
}

// Ranks as threads, each on a GPU of its own.
StatusOr<std::vector<std::unique_ptr<Communicator>>> OpenNcclThreads(const SessionOptions& options, const std::vector<int>& gpu_of_rank) {
  if constexpr (kNcclEnabled) {
    nccl::Options nccl = options.nccl;
    nccl.setup_patience = options.start_patience;
    return nccl::OpenThreadWorld(gpu_of_rank, nccl);
  } else {
    return InvalidArgument("parallel.transport = \"nccl\" for ", gpu_of_rank.size(),
                           " ranks, but this build has no NCCL; install it and build again, or use \"auto\"");
  }
}

Status RunThreads(const SessionOptions& options, const std::function<Status(Session&)>& body) {
  const int ranks = std::max(1, options.thread_ranks);
  if (options.transport == Transport::kMpi || options.transport == Transport::kTcp) {
    return InvalidArgument("parallel.transport = \"", options.transport == Transport::kMpi ? "mpi" : "tcp",
                           "\" is between processes, but the ranks are threads of one; use \"auto\", or start a process for each rank");
  }
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Board> board, Board::Open({.ranks = ranks}));
  std::vector<int> gpu_of_rank(static_cast<std::size_t>(ranks), 0);
  if (options.cuda) {
    LYCIA_ASSIGN_OR_RETURN(gpu_of_rank, GpusOfThreads(ranks));
  }
  const auto run = [&](Communicator& world) {
    const int gpu = gpu_of_rank[static_cast<std::size_t>(world.rank())];
    const Status status = RunOneRank({.world = &world, .board = board.get(), .threads = true, .gpu = gpu}, options, body);
    if (status.ok() || ExitCode(status) != kExitFailure) return status;
    return Annotate(status, StrCat("rank ", world.rank()));
  };
  if (!options.cuda) return RunThreadRanks(ranks, run);
  if (options.transport != Transport::kNccl) return RunCudaThreadRanks(gpu_of_rank, run);
  LYCIA_ASSIGN_OR_RETURN(const auto world, OpenNcclThreads(options, gpu_of_rank));
  return RunRanksOf(world, run);
}

}  // namespace

Status RunRanks(const SessionOptions& options, const std::function<Status(Session&)>& body) {
  return options.launcher.one_of_many() ? RunProcessRank(options, body) : RunThreads(options, body);
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
  Status agreed = absl::InvalidArgumentError(message);
  agreed.SetPayload(kAgreed, {});
  return agreed;
}

}  // namespace lycia
