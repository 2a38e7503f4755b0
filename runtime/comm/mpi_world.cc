// Ranks as processes started by mpirun or srun.
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "runtime/comm/engine.h"
#include "runtime/comm/mpi_wire.h"
#include "runtime/comm/shared_segment.h"
#include "runtime/comm/transports.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {

namespace {

// What the launchers tell their processes: Open MPI's mpirun, PMIx (srun --mpi=pmix, prrte), PMI-1 and PMI-2 (MPICH's mpirun, srun).
const char* RankVariable() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* value = std::getenv(name); value != nullptr) return value;
  }
  return nullptr;
}

// LYCIA_SHARED_MEMORY=off: where the system offers memory that is not to be used, to compare, or to stand for another host.
bool SharedMemoryWanted() {
  const char* value = std::getenv("LYCIA_SHARED_MEMORY");
  return value == nullptr || std::strcmp(value, "off") != 0;
}

}  // namespace

bool StartedByMpi() { return RankVariable() != nullptr; }

int LauncherRank() {
  const char* value = RankVariable();
  return value == nullptr ? 0 : std::atoi(value);
}

std::string SharedMemoryDescription() {
  constexpr std::int64_t kTrialBytes = 4096;
  if (!SharedMemoryWanted()) return "off (LYCIA_SHARED_MEMORY=off)";
  const std::string name = SharedSegment::NewName();
  const auto trial = SharedSegment::Create(name, kTrialBytes);
  if (!trial.ok()) return std::string(trial.status().message());
  SharedSegment::Forget(name);
  return "for sums between the processes of a host";
}

StatusOr<std::unique_ptr<Communicator>> OpenMpiWorld() {
  int rank = 0, size = 1;
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenMpiWire(&rank, &size); }));
  return OpenWireWorld(std::move(engine), "mpi", rank, size, SharedMemoryWanted() ? Sums::kSharedMemory : Sums::kMessages);
}

}  // namespace lycia
