// How this process was started: alone, as a rank of an MPI job, or as one of several processes that have to find each other.
#ifndef LYCIA_LAUNCH_LAUNCHER_H_
#define LYCIA_LAUNCH_LAUNCHER_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launch/cli.h"
#include "launch/rendezvous.h"
#include "runtime/core/status.h"

namespace lycia {

struct Launcher {
  enum class Kind : std::uint8_t {
    kAlone,      // ranks are threads of this process
    kMpi,        // MPI knows the rest
    kProcesses,  // rank `rank` of `ranks`, which meet at `rendezvous`
  };
  Kind kind = Kind::kAlone;
  int rank = 0, ranks = 1;    // of kProcesses
  int local_rank = -1;        // among the ranks of this host, where a launcher tells it
  Rendezvous rendezvous;      // of kProcesses
  std::string job = "lycia";  // keeps ranks of other jobs away that come to the same place
  std::string address;        // this machine, as the others reach it; "": found out
  bool shared_memory = true;  // for sums among the processes of a host

  // A rank of several processes, however they were started.
  bool one_of_many() const { return kind != Kind::kAlone; }
};

// The flags --rank and --rendezvous, for a command that has --ranks. LauncherOf reads all three.
std::vector<FlagSpec> LauncherFlags();

// What is known of MPI before it is initialised.
struct MpiPresence {
  bool started = false;   // mpirun or srun --mpi has set its variables
  bool in_build = false;  // this build has MPI
};
MpiPresence FindMpi();

// In this order: --rank, --ranks and --rendezvous; --rendezvous (or LYCIA_RENDEZVOUS) with the rank and size of a launcher; MPI; RANK,
// WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun and its like); the variables of srun. InvalidArgument says what is missing.
StatusOr<Launcher> LauncherOf(const Arguments& arguments, const Environment& environment, const MpiPresence& mpi);

// This process's rank, as far as it can be told before the command line is understood: 0 where nothing tells.
int ToldRank(std::span<const std::string> words, const Environment& environment);

// InvalidArgument where --ranks, which starts threads, was given to a process that is one rank of `ranks` already.
Status CheckRanksFlag(const Arguments& arguments, const Launcher& launcher, int ranks);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_LAUNCHER_H_
