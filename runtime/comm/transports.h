// Where communicators come from. Each function opens one world; everything else is Split from it.
#ifndef LYCIA_RUNTIME_COMM_TRANSPORTS_H_
#define LYCIA_RUNTIME_COMM_TRANSPORTS_H_

#include <functional>
#include <memory>
#include <vector>

#include "runtime/comm/communicator.h"

namespace lycia {

// Ranks as threads of this process: communicators of ranks 0..size-1, each to be used by one thread. The worlds share one communication
// thread, which ends with the last of them.
std::vector<std::unique_ptr<Communicator>> OpenThreadWorld(int size);

// Runs body(communicator) on `size` threads, one a rank. A rank that fails aborts the others; returned is the failure that came first in
// time, which is the cause, not one of those that followed from the abort.
Status RunThreadRanks(int size, const std::function<Status(Communicator&)>& body);

// As OpenThreadWorld, with rank r on GPU device_of_rank[r]; several ranks may share a device. Operands lie in memory of these devices, or of
// the host: page-locked memory is moved by the devices too, other host memory at once. Sums have the bits of the host's (fold.h), whatever
// the devices. Unavailable: no such device, or two of them cannot read each other's memory. At most 256 ranks.
StatusOr<std::vector<std::unique_ptr<Communicator>>> OpenCudaThreadWorld(const std::vector<int>& device_of_rank);
Status RunCudaThreadRanks(const std::vector<int>& device_of_rank, const std::function<Status(Communicator&)>& body);
// Runs the body on the ranks of an open world, a thread each; for the two above.
Status RunRanksOf(const std::vector<std::unique_ptr<Communicator>>& world, const std::function<Status(Communicator&)>& body);

// True when this process was started by mpirun or srun (PMIx, PMI) and so must not start ranks of its own. Reads no configuration.
bool StartedByMpi();
// This process's rank as its launcher tells it, before MPI is initialised; 0 without one.
int LauncherRank();
// Initialises MPI (thread level MPI_THREAD_MULTIPLE or, where missing, SERIALIZED: all calls are made by one communication thread) and
// opens its world. MPI is finalised when the returned communicator and all its descendants are gone. Unavailable in a build without MPI.
StatusOr<std::unique_ptr<Communicator>> OpenMpiWorld();
// As OpenMpiWorld, for operands in memory of GPU `device` (or of the host). Where the MPI library does not take such addresses, messages go
// through page-locked memory; LYCIA_MPI_DEVICE_MEMORY=staged or =direct in the environment overrides what the library says of itself. Sums
// are made on the device, with the bits of the host's. Unavailable without MPI, without CUDA, without the device.
StatusOr<std::unique_ptr<Communicator>> OpenCudaMpiWorld(int device);
// Library version and thread level, for `lycia doctor`; "not in this build" without MPI.
std::string MpiDescription();
// Whether sums between processes of this host can go through shared memory, or why not, for `lycia doctor`. LYCIA_SHARED_MEMORY=off in the
// environment of any rank of a group sends the group's sums by messages.
std::string SharedMemoryDescription();
// After a failure: tells the launcher to end every process of the job with this exit code. Does not return in an MPI job.
void MpiAbort(int exit_code);

// Counts calls and bytes at any rank count and moves nothing; every event is done at once.
std::unique_ptr<Communicator> OpenDryRunWorld(int rank, int size);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TRANSPORTS_H_
