// A world over TCP, for ranks that srun started without MPI: the control world of NCCL.
#ifndef LYCIA_RUNTIME_COMM_TCP_WORLD_H_
#define LYCIA_RUNTIME_COMM_TCP_WORLD_H_

#include <chrono>
#include <memory>
#include <string>

#include "runtime/comm/bootstrap.h"
#include "runtime/comm/communicator.h"

namespace lycia {

struct TcpOptions {
  std::string host;  // this machine, as the others reach it; empty: its host name
  std::chrono::milliseconds patience{300'000};
};
// Collective over the bootstrap, which is not used afterwards.
StatusOr<std::unique_ptr<Communicator>> OpenTcpWorld(Bootstrap& bootstrap, const TcpOptions& options = {});

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TCP_WORLD_H_
