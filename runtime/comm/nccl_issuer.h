// Issuer: the one thread of a rank that calls NCCL. It issues the operations of all lanes in the order of the calls, which is the same on
// all ranks where their programs are; only what waits for an event of the host is overtaken, and only by other lanes.
#ifndef LYCIA_RUNTIME_COMM_NCCL_ISSUER_H_
#define LYCIA_RUNTIME_COMM_NCCL_ISSUER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/comm/collective_call.h"
#include "runtime/comm/engine.h"
#include "runtime/comm/nccl_lane.h"

namespace lycia::nccl {

// Goes before every message of a channel.
struct Frame {
  MessageHeader header;
  std::int64_t payload_bytes = 0;
  std::int32_t lane = 0, generation = 0, credits = 0, unused = 0;
};

// An operation of a lane: a collective or a message.
struct Call {
  Event after;
  bool host = false;  // a collective of operands that only the host reaches: not NCCL's
  CollectiveCall collective;
  Frame frame;                 // of a message
  const void* data = nullptr;  // its payload
};

// What the operations of a lane are made of. All on the issuing thread.
class LaneUser {
 public:
  virtual ~LaneUser() = default;
  virtual bool Ready(const Call& call) = 0;  // whether it may be issued
  virtual std::int64_t StepsOf(const Call& call) = 0;
  virtual Status Issue(const Call& call, std::int64_t step) = 0;   // calls NCCL
  virtual Status Finish(const Call& call, std::int64_t step) = 0;  // once NCCL has launched the step
  virtual bool HostDone() = 0;                                     // of a call of the host: it has ended
  virtual std::string ToString(const Call& call) const = 0;
};

// Work besides the calls: the receiving sides of channels.
class Watched {
 public:
  virtual ~Watched() = default;
  virtual StatusOr<bool> Advance() = 0;  // true: something moved
  virtual Need need() const = 0;
  virtual Status Check() = 0;  // now and then: whether what it waits for may still come
  virtual void Fail(const Status& status) = 0;
};

// `after` may be waited for by a stream without the host, or is done.
bool CanBeEnqueued(const Event& after);

class Issuer final : public Task {
 public:
  // `failed` is told, on the issuing thread, why everything has ended.
  Issuer(bool serial, std::chrono::milliseconds patience, std::function<void(const Status&)> failed)
      : serial_(serial), patience_(patience), tell_(std::move(failed)), ring_(kOpenCalls) {}

  // Calling thread: the next operation of the lane. Blocks while kOpenCalls are not issued.
  Event Enqueue(Lane& lane, LaneUser& user, const Call& call);

  // Issuing thread (Engine::Do).
  void Add(Lane* lane) {
    lanes_.push_back(lane);
    FailIfFailed(lane->events);
  }
  void Add(Watched* watched) { watched_.push_back(watched); }
  void Remove(Lane* lane);  // its calls that are not issued are forgotten; its NCCL communicator is destroyed, or aborted if work is left
  void Remove(Watched* watched) { std::erase(watched_, watched); }
  void FailIfFailed(LaunchedEvents& events);  // of a lane or channel that is new

  // Any thread.
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  const Status& failure() const { return failure_; }  // once failed()

  void Open(Wire&) override {}
  bool Advance(Wire&) override;
  Need need() const override { return need_; }
  void Fail(const Status& why) override;
  void Close(Wire&, bool) override {}

 private:
  static constexpr std::uint64_t kOpenCalls = 1024;

  struct Slot {
    Lane* lane = nullptr;  // null: issued, or forgotten
    LaneUser* user = nullptr;
    Call call;
    std::int64_t step = -1;  // not started
    bool recorded = false;   // all steps are launched; the host has its part to do
  };

  bool AdvanceCalls();
  // One call as far as it goes; true: it is launched.
  StatusOr<bool> AdvanceCall(Slot& slot, bool* moved);
  StatusOr<bool> Launch(Slot& slot, bool* moved);
  void CheckLanes();

  const bool serial_;
  const std::chrono::milliseconds patience_;
  const std::function<void(const Status&)> tell_;
  std::vector<Slot> ring_;
  std::atomic<std::uint64_t> asked_{0};
  std::atomic<std::uint64_t> first_open_{0};  // calls before it are issued
  std::atomic<bool> failed_{false};
  Status failure_;  // of failed_

  std::vector<Lane*> lanes_;
  std::vector<Watched*> watched_;
  std::uint64_t scan_ = 0;
  std::int64_t next_check_ns_ = 0;
  bool calls_open_ = false, lanes_busy_ = false;
  Need need_ = Need::kNothing;
};

}  // namespace lycia::nccl

#endif  // LYCIA_RUNTIME_COMM_NCCL_ISSUER_H_
