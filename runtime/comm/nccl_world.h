// How a world over NCCL is opened.
#ifndef LYCIA_RUNTIME_COMM_NCCL_WORLD_H_
#define LYCIA_RUNTIME_COMM_NCCL_WORLD_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/comm/communicator.h"

namespace lycia::nccl {

// Sums as NCCL makes them: repeatable, in an order of its own. Or as everywhere else in Lycia: every rank gets the parts of its shard and
// adds them in rank order, so that a sum has the bits of threads and of MPI. The second moves as many bytes and needs no NVLink sums.
enum class Sums : std::uint8_t { kLibrary, kInRankOrder };

struct Options {
  int device = 0;  // ordinal of this rank's GPU
  Sums sums = Sums::kLibrary;
  // All collectives of a rank, whatever their communicator, run one after the other in the order of the calls: the mode to try when a run
  // hangs with several communicators in flight. Messages keep their own lanes: they have to wait beside collectives.
  bool serial = false;
  int channel_blocks = 4;                             // thread blocks of a message under way; one that waits for its peer keeps them
  std::chrono::milliseconds setup_patience{300'000};  // for communicators and channels to come about
  std::chrono::milliseconds operation_patience{0};    // for an operation that has started; 0: as long as its waits' guards allow
};

// This rank's communicator of a world over `control`, which has the same ranks: threads, MPI, or TCP where srun started the ranks without
// MPI. NCCL's unique id, tables of splits, frames of messages, barriers and operands that only the host reaches go by it. Collective.
// Operands lie in memory of the device or in page-locked memory; or elsewhere on the host, then on all ranks.
// - The calling thread of a world and all its descendants is one thread; NCCL itself is called by one thread more.
// - The first OpenChannel of a communicator is collective over it. A message may be done before its receive is posted.
// - Abort ends the ranks of this process, and those that `control` can reach. Others find out by a deadline, or the launcher.
// DeadlineExceeded: not all ranks came; Unavailable: no GPU, or NCCL says that a peer or the network is gone.
StatusOr<std::unique_ptr<Communicator>> OpenWorld(std::unique_ptr<Communicator> control, const Options& options);

// One rank for each entry, as threads of this process, to be run with RunRanksOf; an abort ends all of them.
StatusOr<std::vector<std::unique_ptr<Communicator>>> OpenThreadWorld(const std::vector<int>& device_of_rank, const Options& options);

// "2.28.9", for `lycia doctor`.
std::string Version();

}  // namespace lycia::nccl

#endif  // LYCIA_RUNTIME_COMM_NCCL_WORLD_H_
