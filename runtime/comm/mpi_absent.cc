// Stands in for mpi_wire.cc in a build without MPI.
#include "runtime/comm/mpi_wire.h"
#include "runtime/comm/transports.h"

namespace lycia {

StatusOr<std::unique_ptr<Wire>> OpenMpiWire(int*, int*) {
  return absl::UnavailableError(
      "this build has no MPI; install an MPI library and build again, or use --ranks=N (ranks as threads) or --rendezvous (processes over "
      "TCP)");
}

bool MpiInThisBuild() { return false; }

bool MpiTakesDeviceMemory() { return false; }

std::string MpiDescription() { return "not in this build"; }

void MpiAbort(int) {}

}  // namespace lycia
