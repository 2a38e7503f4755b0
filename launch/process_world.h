// The world of a rank that is a process: how it is opened, and how such a job is ended.
#ifndef LYCIA_LAUNCH_PROCESS_WORLD_H_
#define LYCIA_LAUNCH_PROCESS_WORLD_H_

#include <atomic>
#include <memory>

#include "launch/session.h"
#include "runtime/comm/communicator.h"

namespace lycia {

struct ProcessWorld {
  std::unique_ptr<std::atomic<bool>> broken = std::make_unique<std::atomic<bool>>(false);  // a rank has ended in the middle of its work
  std::unique_ptr<Communicator> world;  // operands on GPUs too, with SessionOptions::cuda and a transport that stages
  int gpu = -1;                         // of this rank, where opening the world has asked for it
  Status wrong;  // what is wrong with the options or with this host, to be agreed on by all ranks before anything else
};
// The world that the launcher offers: MPI's, or one over TCP, whose ranks meet at a rendezvous; DeadlineExceeded names who did not come.
// NCCL comes later (MoveToNccl). Collective.
StatusOr<ProcessWorld> OpenProcessWorld(const SessionOptions& options);

// Replaces a world of the host by NCCL's over it, of the same ranks. Collective: all ranks have a GPU and NCCL, or none goes on. A failure
// has ended the world, which is then null, for all ranks.
Status MoveToNccl(const SessionOptions& options, std::unique_ptr<Communicator>& world, int* gpu);

// Ends this process and, as far as that reaches them, the others. Does not return.
[[noreturn]] void EndJob(const Launcher& launcher);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_PROCESS_WORLD_H_
