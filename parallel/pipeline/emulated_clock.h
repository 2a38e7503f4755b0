// EmulatedClock: the time of one worker of an emulated device. The executor, its messages and its memory plan are real; computing takes a
// given time and no processor, and links have a latency and a bandwidth.
//
// All times are nanoseconds since the common start of the step. The rules are those of schedule::Simulate: an instruction starts at the
// end of the one before; a message leaves when its sender's one egress link is free, occupies it for `transmit`, and arrives `latency`
// later; its header carries that arrival. Two clocks tell the time:
//   kLogical  nothing waits. Only arrivals and compute move the clock: exact, at any number of ranks on any machine.
//   kWall     time is the host's. Compute sleeps until an absolute deadline, counted from the deadline before, so that oversleeping does
//             not add up; a message that had to be waited for arrives when it is really there, and never before its header says.
#ifndef LYCIA_PARALLEL_PIPELINE_EMULATED_CLOCK_H_
#define LYCIA_PARALLEL_PIPELINE_EMULATED_CLOCK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "parallel/pipeline/emulated_sync.h"
#include "runtime/comm/communicator.h"
#include "runtime/core/status.h"

namespace lycia {

enum class ClockKind : std::uint8_t { kLogical, kWall };

class EmulatedClock {
 public:
  struct Args {
    ClockKind kind = ClockKind::kLogical;
    std::int64_t latency_ns = 0;
    std::int64_t transmit_ns = 0;
    std::int64_t sync_ns = 0;
    Communicator* ranks = nullptr;             // all that step together
    std::map<int, Communicator*> sync_groups;  // as of EmulatedSync
    WaitGuard* guard = nullptr;                // of every wait; may be null
  };
  // Collective. InvalidArgument: a wall clock over several hosts, whose clocks are not one.
  static StatusOr<std::unique_ptr<EmulatedClock>> Create(const Args& args);

  // Collective. Everybody's time is 0 when it returns.
  Status StartStep();
  // Collective. Returns the makespan: the latest end of all ranks, the same on each.
  StatusOr<std::int64_t> EndStep();

  // Of the calling worker: the end of what it has done.
  std::int64_t now_ns() const { return now_ns_; }
  void Compute(std::int64_t ns);
  // A message to another worker leaves: when it arrives there.
  std::int64_t Depart();
  // A message with this arrival in its header is here; blocked: the worker had to wait for it.
  void Arrive(std::int64_t arrival_ns, bool blocked);
  void IssueSync(int sync_set) { sync_.Issue(sync_set, now_ns_); }
  // Waits for the set, or with -1 for all that were issued.
  Status AwaitSync(int sync_set);

  // Before the communicators go; the clock itself must outlive them.
  void Stop() { sync_.Stop(); }

 private:
  explicit EmulatedClock(const Args& args);
  std::int64_t WallNs() const;  // since the start of the step
  void Reach(std::int64_t ns);  // moves the clock forward
  Status Exchange(std::int64_t mine);

  Args args_;
  std::int64_t now_ns_ = 0;
  std::int64_t egress_free_ns_ = 0;
  std::int64_t start_ns_ = 0;  // of the step on the host's clock
  std::int64_t mine_ = 0;
  std::vector<std::int64_t> said_;  // [rank]
  EmulatedSync sync_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_EMULATED_CLOCK_H_
