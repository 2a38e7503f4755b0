// Ranks as processes started by mpirun or srun.
#include <cstdlib>
#include <initializer_list>

#include "runtime/comm/engine.h"
#include "runtime/comm/mpi_wire.h"
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

}  // namespace

bool StartedByMpi() { return RankVariable() != nullptr; }

int LauncherRank() {
  const char* value = RankVariable();
  return value == nullptr ? 0 : std::atoi(value);
}

StatusOr<std::unique_ptr<Communicator>> OpenMpiWorld() {
  int rank = 0, size = 1;
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenMpiWire(&rank, &size); }));
  return OpenWireWorld(std::move(engine), "mpi", rank, size);
}

}  // namespace lycia
