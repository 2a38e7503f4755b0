// Bootstrap: a few small values that ranks tell one another before they can send messages, such as NCCL's unique id.
//
// Over a world that exists (threads, MPI), or, where srun started the ranks without MPI, over files of a folder they share or over TCP.
#ifndef LYCIA_RUNTIME_COMM_BOOTSTRAP_H_
#define LYCIA_RUNTIME_COMM_BOOTSTRAP_H_

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/comm/communicator.h"
#include "runtime/core/status.h"

namespace lycia {

class Bootstrap {
 public:
  virtual ~Bootstrap() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Every rank gives a value (at most kMostBytes) and gets the values of all, by rank. All ranks call it, in the same order. `what` is told
  // in failures: DeadlineExceeded names the ranks that did not come, Unavailable one that left.
  virtual StatusOr<std::vector<std::string>> Exchange(std::string_view what, std::string_view mine) = 0;
  // How the other ranks reach this machine, where meeting them has told; else empty.
  virtual std::string address() const { return ""; }

  static constexpr std::int64_t kMostBytes = 1 << 20;
};

struct BootstrapOptions {
  int rank = 0, size = 1;
  std::string job = "lycia";                    // the same on all ranks of a job, another one for every other job at the same place
  std::chrono::milliseconds patience{300'000};  // for each step
};

// Files of `folder`, which all ranks see (made if missing). What an earlier job left there, even one of the same name that was killed, is
// neither taken for an answer nor kept.
StatusOr<std::unique_ptr<Bootstrap>> OpenFileBootstrap(const std::string& folder, const BootstrapOptions& options);
// Rank 0 listens at `port` of all its interfaces; the others connect to `host`. Strangers and ranks of other jobs are turned away.
StatusOr<std::unique_ptr<Bootstrap>> OpenTcpBootstrap(const std::string& host, int port, const BootstrapOptions& options);
// By messages of a world, which outlives it.
std::unique_ptr<Bootstrap> BootstrapOver(Communicator* world);

// InvalidArgument unless it is made of letters, digits, '-', '_' and '.', and begins with a letter or digit: it names a folder.
Status CheckJobName(std::string_view job);
// "rank 3", "ranks 2, 5 to 7": for messages.
std::string RankList(std::span<const int> ranks);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_BOOTSTRAP_H_
