// EmulatedSync: the gradient synchronisation of one emulated worker. Nothing is summed; what is real is the rendezvous: a worker's sync
// sets form a queue beside its compute, each set starts when its last member has come to it, and takes a given time.
//
// The members tell each other when they came, by an all-gather on a thread of its own, because a worker may compute while it waits.
#ifndef LYCIA_PARALLEL_PIPELINE_EMULATED_SYNC_H_
#define LYCIA_PARALLEL_PIPELINE_EMULATED_SYNC_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/comm/communicator.h"
#include "runtime/core/status.h"
#include "runtime/device/event.h"

namespace lycia {

class EmulatedSync {
 public:
  struct Args {
    std::int64_t sync_ns = 0;               // one set's reduction, from the arrival of its last member
    std::map<int, Communicator*> groups;    // sync set -> its members; a set that is not here has this worker alone
    std::function<std::int64_t()> wall_ns;  // no rendezvous ends before this, if given: what the exchange itself has taken
  };
  explicit EmulatedSync(Args args);
  ~EmulatedSync() { Stop(); }

  // A new step; every set of the last one has been awaited.
  void StartStep();
  // This worker comes to the set at `now_ns` and goes on.
  void Issue(int sync_set, std::int64_t now_ns);
  // Blocks until the set (-1: every set issued so far) has its end, and returns it; 0 when nothing was issued.
  StatusOr<std::int64_t> Await(int sync_set, WaitGuard* guard);

  // Ends the thread. Call it before the communicators go; this object, whose memory they use, must outlive them.
  void Stop();

 private:
  struct Issued {
    int sync_set = 0;
    std::int64_t issued_ns = 0, end_ns = 0;
  };
  // Gives up an exchange that nobody waits for any more.
  struct UntilStopped final : WaitGuard {
    explicit UntilStopped(EmulatedSync* of) : sync(of) {}
    Status StillWaiting(std::int64_t) override;
    EmulatedSync* sync;
  };

  void Run();
  // The latest of what the members of the set say.
  StatusOr<std::int64_t> Rendezvous(int sync_set, std::int64_t mine);

  Args args_;
  std::vector<std::int64_t> said_;  // [member]
  std::int64_t mine_ = 0;
  UntilStopped until_stopped_{this};
  HostEventSource ended_;  // ticket: sets since the beginning

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::vector<Issued> queue_;  // of this step
  std::size_t resolved_ = 0;   // of this step
  std::uint64_t earlier_ = 0;  // sets of the steps before
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_EMULATED_SYNC_H_
