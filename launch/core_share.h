// Which cores a rank computes on: ranks that may run on the same cores of the same host share them evenly, so that no two fight for one.
#ifndef LYCIA_LAUNCH_CORE_SHARE_H_
#define LYCIA_LAUNCH_CORE_SHARE_H_

#include <vector>

#include "runtime/comm/communicator.h"
#include "runtime/core/status.h"
#include "runtime/device/thread_pool.h"

namespace lycia {

// The share of rank `index` of `ranks` that may all run on `cores`. With a core or more for each, contiguous cores of its own, of which the
// first (cores mod ranks) ranks have one more; with fewer, one thread that the system places. threads > 0: so many instead, pinned where
// the share has just as many, or more and a launcher has bound the ranks to their cores. Without that, cores that this run leaves idle may
// be what another one of the same machine counts on, and the system places the threads.
struct ShareArgs {
  std::vector<int> cores;
  int index = 0, ranks = 1;
  int threads = 0;
  bool bound = false;  // to fewer cores than what started this process has
};
CpuOptions ShareOf(const ShareArgs& args);

// This rank's share of what its launcher left it: collective, over ranks as threads or as processes on any hosts.
StatusOr<CpuOptions> ShareCores(Communicator& world, int threads);

// Restricts the calling thread, which is thread 0 of the rank's pool, to the first core of its share; nothing where the share is not
// pinned. Threads that it starts afterwards inherit this: those that should not compute here (a writer, a watch) are started before.
Status PinRankThread(const CpuOptions& share);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CORE_SHARE_H_
