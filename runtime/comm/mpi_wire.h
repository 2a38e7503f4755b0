// The wire between processes: MPI. The functions exist in every build; without MPI they say so.
#ifndef LYCIA_RUNTIME_COMM_MPI_WIRE_H_
#define LYCIA_RUNTIME_COMM_MPI_WIRE_H_

#include <memory>
#include <string>

#include "runtime/comm/wire.h"

namespace lycia {

bool MpiInThisBuild();

// Calls MPI_Init_thread on the calling thread, which must make all calls of the wire, its destructor (MPI_Finalize) included.
// rank, size: of MPI_COMM_WORLD. Unavailable in a build without MPI; FailedPrecondition when MPI was initialised before.
StatusOr<std::unique_ptr<Wire>> OpenMpiWire(int* rank, int* size);

// Whether the library says that it takes addresses of devices (Open MPI built with CUDA). After OpenMpiWire.
bool MpiTakesDeviceMemory();

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_MPI_WIRE_H_
