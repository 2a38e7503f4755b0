#include "launch/process_world.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "bazel/build_config.h"
#include "launch/cli.h"
#include "launch/process_board.h"
#include "runtime/comm/bootstrap.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/comm/tcp_world.h"
#include "runtime/comm/transports.h"
#include "runtime/device/gpus.h"

namespace lycia {
namespace {

bool ByMpi(const SessionOptions& options) { return options.launcher.kind == Launcher::Kind::kMpi; }

// What the launcher cannot offer, or the device not use.
Status CheckTransport(const SessionOptions& options) {
  if (options.transport == Transport::kTcp && ByMpi(options)) {
    return InvalidArgument(
        "parallel.transport = \"tcp\" needs a place where ranks meet: give --rendezvous=tcp://HOST:PORT, HOST being rank 0's, also under "
        "mpirun; or use \"auto\"");
  }
  if (options.transport == Transport::kMpi && !ByMpi(options)) {
    return InvalidArgument("parallel.transport = \"mpi\", but MPI has not started these ranks, which meet at ",
                           options.launcher.rendezvous.ToString(), "; start them with mpirun or srun --mpi=pmix, or use \"auto\"");
  }
  if (options.transport == Transport::kNccl && !options.cuda) {
    return InvalidArgument("parallel.transport = \"nccl\" moves tensors of GPUs; use parallel.device = \"cuda\", or another transport");
  }
  return OkStatus();
}

bool Staged(const SessionOptions& options) {
  return options.cuda && (options.transport == Transport::kMpi || options.transport == Transport::kTcp);
}

// Rank `place` of those of a host takes its GPUs in turn.
StatusOr<int> GpuOf(int place) {
  LYCIA_ASSIGN_OR_RETURN(const int gpus, CountGpus());
  return place % gpus;
}

int PlaceOnHost(const std::vector<std::string>& hosts, int rank) {
  const auto mine = hosts.begin() + rank;
  return static_cast<int>(std::count(hosts.begin(), mine, *mine));
}

StatusOr<ProcessWorld> OpenByMpi(const SessionOptions& options) {
  ProcessWorld opened{.wrong = CheckTransport(options)};
  if (opened.wrong.ok() && Staged(options)) {
    const int place = options.launcher.local_rank >= 0 ? options.launcher.local_rank : LauncherRank();
    const StatusOr<int> gpu = GpuOf(place);
    opened.wrong = gpu.status();
    if (gpu.ok()) opened.gpu = *gpu;
  }
  // A rank without a GPU opens a world of the host, in which all hear of it.
  LYCIA_ASSIGN_OR_RETURN(opened.world, opened.gpu >= 0 ? OpenCudaMpiWorld(opened.gpu) : OpenMpiWorld());
  return opened;
}

StatusOr<std::unique_ptr<Bootstrap>> Meet(const SessionOptions& options) {
  const Launcher& launcher = options.launcher;
  const BootstrapOptions bootstrap{.rank = launcher.rank, .size = launcher.ranks, .job = launcher.job, .patience = options.start_patience};
  if (!launcher.rendezvous.folder.empty()) return OpenFileBootstrap(launcher.rendezvous.folder, bootstrap);
  return OpenTcpBootstrap(launcher.rendezvous.host, launcher.rendezvous.port, bootstrap);
}

StatusOr<ProcessWorld> OpenByTcp(const SessionOptions& options) {
  ProcessWorld opened{.wrong = CheckTransport(options)};
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Bootstrap> bootstrap, Meet(options));
  // Whatever the options of this rank: those of others, which CheckSame holds against them, may ask for it.
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> hosts, bootstrap->Exchange("host names", HostName()));
  if (opened.wrong.ok() && Staged(options)) {
    const StatusOr<int> gpu = GpuOf(PlaceOnHost(hosts, options.launcher.rank));
    opened.wrong = gpu.status();
    if (gpu.ok()) opened.gpu = *gpu;
  }
  const TcpOptions tcp{.host = options.launcher.address,
                       .patience = options.start_patience,
                       .shared_memory = options.launcher.shared_memory && !options.cuda,
                       .on_failure = [broken = opened.broken.get()](const Status&) { broken->store(true); }};
  LYCIA_ASSIGN_OR_RETURN(opened.world, opened.gpu >= 0 ? OpenCudaTcpWorld(opened.gpu, *bootstrap, tcp) : OpenTcpWorld(*bootstrap, tcp));
  return opened;
}

// Over what ranks move tensors decides in which calls they meet: it must be the same everywhere.
Status CheckSame(Communicator& world, const SessionOptions& options) {
  const std::int64_t mine = static_cast<std::int64_t>(options.transport) << 1 | (options.cuda ? 1 : 0);
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  LYCIA_RETURN_IF_ERROR(
      world
          .AllGather(
              {.in = ConstTensor(&mine, DType::kI64, {1}), .out = Tensor{all.data(), DType::kI64, {world.size()}}, .tag = Tag::kSetup}, {})
          .Wait());
  std::vector<int> others;
  for (int r = 0; r < world.size(); ++r) {
    if (all[static_cast<std::size_t>(r)] != all[0]) others.push_back(r);
  }
  if (others.empty()) return OkStatus();
  return InvalidArgument("parallel.device or parallel.transport of ", RankList(others),
                         " is not that of rank 0; give all ranks the same configuration");
}

// NCCL says that two ranks share a GPU in words of its own.
std::string Hint(const std::vector<std::string>& hosts, int gpus) {
  std::vector<int> places;
  for (int r = 0; r < static_cast<int>(hosts.size()); ++r) places.push_back(PlaceOnHost(hosts, r));
  if (*std::max_element(places.begin(), places.end()) < gpus) return "";
  return "; several ranks share a GPU, which NCCL before 2.30 does not take: use fewer ranks, or parallel.transport = \"mpi\" or \"tcp\"";
}

}  // namespace

StatusOr<ProcessWorld> OpenProcessWorld(const SessionOptions& options) {
  LYCIA_ASSIGN_OR_RETURN(ProcessWorld opened, ByMpi(options) ? OpenByMpi(options) : OpenByTcp(options));
  opened.wrong = AgreeOnInput(*opened.world, opened.wrong);
  if (opened.wrong.ok()) opened.wrong = CheckSame(*opened.world, options);
  return opened;
}

Status MoveToNccl(const SessionOptions& options, std::unique_ptr<Communicator>& world, int* gpu) {
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> hosts, GatherHosts(*world));
  const StatusOr<int> chosen = GpuOf(PlaceOnHost(hosts, world->rank()));
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*world, chosen.status()));
  *gpu = *chosen;
  if constexpr (kNcclEnabled) {
    nccl::Options nccl = options.nccl;
    nccl.device = *gpu;
    nccl.setup_patience = options.start_patience;
    const std::string hint = Hint(hosts, *CountGpus());
    StatusOr<std::unique_ptr<Communicator>> over = nccl::OpenWorld(std::move(world), nccl);
    if (!over.ok()) return Status(over.status().code(), StrCat(over.status().message(), hint));
    world = *std::move(over);
    return OkStatus();
  } else {
    return InvalidArgument("GPU ", *gpu,
                           ": processes move tensors of GPUs by NCCL, which this build has not; install it and build again, or use "
                           "parallel.transport = \"",
                           ByMpi(options) ? "mpi" : "tcp", "\", or `lycia train --ranks=N`, whose ranks are threads");
  }
}

void EndJob(const Launcher& launcher) {
  std::fflush(nullptr);
  if (launcher.kind == Launcher::Kind::kMpi) MpiAbort(kExitFailure);
  std::_Exit(kExitFailure);  // its connections break, which ends the other ranks
}

}  // namespace lycia
