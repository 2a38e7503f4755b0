// Worlds over TCP, for ranks that were started as processes without MPI: to train with, and to be the control world of NCCL.
#ifndef LYCIA_RUNTIME_COMM_TCP_WORLD_H_
#define LYCIA_RUNTIME_COMM_TCP_WORLD_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "runtime/comm/bootstrap.h"
#include "runtime/comm/communicator.h"

namespace lycia {

struct TcpOptions {
  std::string host;  // this machine, as the others reach it; empty: as the bootstrap knows it, else its host name
  std::chrono::milliseconds patience{300'000};
  // Sums and gathers between processes of one host go through memory they share, as with MPI, where all ranks of a group want it.
  bool shared_memory = false;
  // Called once, on the communication thread, when a rank is found to have ended in the middle of its work. May be empty.
  std::function<void(const Status&)> on_failure;
};
// Collective over the bootstrap, which is not used afterwards.
StatusOr<std::unique_ptr<Communicator>> OpenTcpWorld(Bootstrap& bootstrap, const TcpOptions& options = {});
// As OpenTcpWorld, for operands in memory of GPU `device` (or of the host): messages go through page-locked memory, sums are made on the
// device, with the bits of the host's. Unavailable without CUDA or without the device.
StatusOr<std::unique_ptr<Communicator>> OpenCudaTcpWorld(int device, Bootstrap& bootstrap, const TcpOptions& options = {});

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_TCP_WORLD_H_
