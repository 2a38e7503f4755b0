#include "launch/launcher.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "runtime/comm/mpi_wire.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

constexpr std::int64_t kMostRanks = std::int64_t{1} << 20;

// Names under which launchers tell a process its rank and their number.
struct Names {
  const char *rank, *ranks;
};
constexpr Names kTorchrun{"RANK", "WORLD_SIZE"};
constexpr Names kSlurm{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"};  // the second is set for srun's tasks, not for a batch script
constexpr Names kOpenMpi{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"};
constexpr Names kPmi{"PMI_RANK", "PMI_SIZE"};

struct Place {
  int rank = 0, ranks = 1;
  bool operator==(const Place&) const = default;
};

StatusOr<int> NumberIn(const char* name, const char* text, std::int64_t least, std::int64_t most) {
  const std::string_view value = text;
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < least || number > most) {
    return InvalidArgument(name, "=", value, " in the environment must be an integer from ", least, " to ", most);
  }
  return static_cast<int>(number);
}

// Nothing where one of the two is not set.
StatusOr<std::optional<Place>> PlaceIn(const Environment& environment, const Names& names) {
  const char *rank = environment(names.rank), *ranks = environment(names.ranks);
  if (rank == nullptr || ranks == nullptr) return std::optional<Place>();
  Place place;
  LYCIA_ASSIGN_OR_RETURN(place.ranks, NumberIn(names.ranks, ranks, 1, kMostRanks));
  LYCIA_ASSIGN_OR_RETURN(place.rank, NumberIn(names.rank, rank, 0, place.ranks - 1));
  return std::optional<Place>(place);
}

std::string TextIn(const Environment& environment, const char* name) {
  const char* text = environment(name);
  return text == nullptr ? "" : text;
}

Launcher Processes(const Place& place, Rendezvous rendezvous) {
  return {.kind = Launcher::Kind::kProcesses, .rank = place.rank, .ranks = place.ranks, .rendezvous = std::move(rendezvous)};
}

// MASTER_ADDR and MASTER_PORT. Where torchrun's agent listens there itself, one port above.
StatusOr<Rendezvous> MasterRendezvous(const Environment& environment) {
  Rendezvous rendezvous{.host = TextIn(environment, "MASTER_ADDR")};
  const std::string port = TextIn(environment, "MASTER_PORT");
  if (rendezvous.host.empty() || port.empty()) {
    return InvalidArgument(
        "RANK and WORLD_SIZE are set, as torchrun does, but not MASTER_ADDR and MASTER_PORT; set them to rank 0's host and a free port, "
        "or give --rendezvous=tcp://HOST:PORT; or unset RANK and WORLD_SIZE");
  }
  LYCIA_ASSIGN_OR_RETURN(rendezvous.port, ParsePort("MASTER_PORT", port));
  if (TextIn(environment, "TORCHELASTIC_USE_AGENT_STORE") == "True" && ++rendezvous.port > 65535) {
    return InvalidArgument("MASTER_PORT=", port,
                           " is that of torchrun's agent, and ranks meet one port above, which there is none; give "
                           "torchrun a lower --master-port");
  }
  return rendezvous;
}

// --rank, or the first launcher's word that there is.
StatusOr<std::optional<Place>> ToldPlace(const Arguments& arguments, const Environment& environment) {
  if (!arguments.Has("rank")) {
    for (const Names& names : {kTorchrun, kOpenMpi, kPmi, kSlurm}) {
      LYCIA_ASSIGN_OR_RETURN(const std::optional<Place> place, PlaceIn(environment, names));
      if (place) return place;
    }
    return std::optional<Place>();
  }
  Place place;
  if (!arguments.Has("ranks")) {
    return InvalidArgument("--rank=", arguments.Get("rank"), " says which process this is; --ranks=N must say of how many");
  }
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t ranks, arguments.GetInteger("ranks", 1, 1, kMostRanks));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t rank, arguments.GetInteger("rank", 0, 0, ranks - 1));
  return std::optional<Place>(Place{static_cast<int>(rank), static_cast<int>(ranks)});
}

StatusOr<Launcher> AtRendezvous(const std::string& text, const Arguments& arguments, const Environment& environment) {
  LYCIA_ASSIGN_OR_RETURN(Rendezvous rendezvous, ParseRendezvous(text));
  LYCIA_ASSIGN_OR_RETURN(const std::optional<Place> place, ToldPlace(arguments, environment));
  if (!place) {
    return InvalidArgument("rendezvous ", text,
                           " says where ranks meet, but nothing says which rank this is: give --rank=R and --ranks=N, or start by a "
                           "launcher that sets RANK and WORLD_SIZE, or by srun");
  }
  return Processes(*place, std::move(rendezvous));
}

StatusOr<Launcher> Find(const Arguments& arguments, const Environment& environment, const MpiPresence& mpi) {
  const std::string text = arguments.Has("rendezvous") ? arguments.Get("rendezvous") : TextIn(environment, "LYCIA_RENDEZVOUS");
  if (!text.empty()) return AtRendezvous(text, arguments, environment);
  if (arguments.Has("rendezvous")) return InvalidArgument("--rendezvous= names no place; write tcp://HOST:PORT or file:FOLDER");
  if (arguments.Has("rank")) {
    return InvalidArgument("--rank=", arguments.Get("rank"), " needs --rendezvous=tcp://HOST:PORT or file:FOLDER, where the ranks meet");
  }
  if (mpi.started && mpi.in_build) return Launcher{.kind = Launcher::Kind::kMpi};
  LYCIA_ASSIGN_OR_RETURN(const std::optional<Place> torchrun, PlaceIn(environment, kTorchrun));
  if (torchrun && torchrun->ranks > 1) {
    LYCIA_ASSIGN_OR_RETURN(Rendezvous rendezvous, MasterRendezvous(environment));
    return Processes(*torchrun, std::move(rendezvous));
  }
  LYCIA_ASSIGN_OR_RETURN(const std::optional<Place> slurm, PlaceIn(environment, kSlurm));
  // Under mpirun Slurm's variables are those of the daemon that mpirun has put on this host. srun --mpi=pmi2 sets PMI's to its own.
  LYCIA_ASSIGN_OR_RETURN(const std::optional<Place> pmi, PlaceIn(environment, kPmi));
  const bool by_mpirun = environment(kOpenMpi.rank) != nullptr || (pmi && slurm && *pmi != *slurm);
  if (slurm && slurm->ranks > 1 && !by_mpirun) {
    LYCIA_ASSIGN_OR_RETURN(Rendezvous rendezvous, SlurmRendezvous(environment));
    Launcher launcher = Processes(*slurm, std::move(rendezvous));
    launcher.job = StrCat("slurm-", TextIn(environment, "SLURM_JOB_ID"), "-", TextIn(environment, "SLURM_STEP_ID"), "-",
                          TextIn(environment, "SLURM_RESTART_COUNT"));
    return launcher;
  }
  if (mpi.started) {
    return InvalidArgument(
        "mpirun has started this process, but this build has no MPI; install an MPI library and build again, or give all ranks "
        "--rendezvous=tcp://HOST:PORT, where HOST is rank 0's");
  }
  return Launcher{};
}

}  // namespace

std::vector<FlagSpec> LauncherFlags() {
  return {{.name = "rank", .value = "R", .doc = "this process is rank R of --ranks processes, which meet at --rendezvous"},
          {.name = "rendezvous",
           .value = "PLACE",
           .doc = "tcp://HOST:PORT of rank 0, or file:FOLDER that all see; default: what mpirun, srun or torchrun say"}};
}

MpiPresence FindMpi() { return {.started = StartedByMpi(), .in_build = MpiInThisBuild()}; }

StatusOr<Launcher> LauncherOf(const Arguments& arguments, const Environment& environment, const MpiPresence& mpi) {
  LYCIA_ASSIGN_OR_RETURN(Launcher launcher, Find(arguments, environment, mpi));
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID", "LOCAL_RANK"}) {
    if (environment(name) == nullptr || launcher.local_rank >= 0) continue;
    LYCIA_ASSIGN_OR_RETURN(launcher.local_rank, NumberIn(name, environment(name), 0, kMostRanks));
  }
  launcher.address = TextIn(environment, "LYCIA_ADDRESS");
  const std::string shared = TextIn(environment, "LYCIA_SHARED_MEMORY");
  if (!shared.empty() && shared != "on" && shared != "off") {
    return InvalidArgument("LYCIA_SHARED_MEMORY=", shared, " in the environment must be on or off");
  }
  launcher.shared_memory = shared != "off";
  return launcher;
}

int ToldRank(std::span<const std::string> words, const Environment& environment) {
  constexpr std::string_view kFlag = "--rank=";
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].starts_with(kFlag)) return std::atoi(words[i].c_str() + kFlag.size());
    if (words[i] == "--rank" && i + 1 < words.size()) return std::atoi(words[i + 1].c_str());
  }
  if (StartedByMpi()) return LauncherRank();
  for (const Names& names : {kTorchrun, kSlurm}) {
    const char *rank = environment(names.rank), *ranks = environment(names.ranks);
    if (rank != nullptr && ranks != nullptr) return std::atoi(rank);
  }
  return 0;
}

Status CheckRanksFlag(const Arguments& arguments, const Launcher& launcher, int ranks) {
  if (!launcher.one_of_many() || arguments.Has("rank") || !arguments.Has("ranks")) return OkStatus();
  return InvalidArgument("--ranks starts ranks as threads, but a launcher has started this process as one rank of ", ranks,
                         "; leave --ranks out");
}

}  // namespace lycia
