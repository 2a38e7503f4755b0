// Ranks as processes started by mpirun or srun.
#include <cstdlib>
#include <initializer_list>

#include "runtime/comm/engine.h"
#include "runtime/comm/mpi_wire.h"
#include "runtime/comm/transports.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {

// What the launchers tell their processes: Open MPI's mpirun, PMIx (srun --mpi=pmix, prrte), PMI-1 and PMI-2 (MPICH's mpirun, srun).
bool StartedByMpi() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

StatusOr<std::unique_ptr<Communicator>> OpenMpiWorld() {
  int rank = 0, size = 1;
  LYCIA_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, Engine::Start([&] { return OpenMpiWire(&rank, &size); }));
  return OpenWireWorld(std::move(engine), "mpi", rank, size);
}

}  // namespace lycia
