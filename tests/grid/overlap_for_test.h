// What the tests of overlap put around a grid's communicators: a log of what starts and what is waited for, and the two extremes of when a
// collective may happen.
#ifndef LYCIA_TESTS_GRID_OVERLAP_FOR_TEST_H_
#define LYCIA_TESTS_GRID_OVERLAP_FOR_TEST_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/grid/grid.h"
#include "tests/grid/passing_for_test.h"

namespace lycia {

// What one rank's thread did, in order.
struct Moment {
  enum Kind { kStart, kWait, kZero } kind;
  GridGroup group = GridGroup::kCount;
  Operation operation = Operation::kAllGather;
  Tag tag = Tag::kTest;
  std::uint64_t number = 0;  // of the collective in its group, from 1
  std::string ToString() const {
    if (kind == kZero) return "zero";
    return StrCat(kind == kStart ? "start " : "wait ", Name(group), " ", Name(tag), " ", Name(operation), " ", number);
  }
};
using Moments = std::vector<Moment>;

class RecordingCommunicator final : public PassingCommunicator, EventSource {
 public:
  RecordingCommunicator(std::unique_ptr<Communicator> inner, GridGroup group, Moments* log)
      : PassingCommunicator(std::move(inner)), group_(group), log_(log) {}
  Event AllGather(const AllGatherArgs& args, const Event& after) override {
    return Started(Operation::kAllGather, args.tag, inner_->AllGather(args, after));
  }
  Event ReduceScatter(const ReduceScatterArgs& args, const Event& after) override {
    return Started(Operation::kReduceScatter, args.tag, inner_->ReduceScatter(args, after));
  }
  Event AllReduce(const AllReduceArgs& args, const Event& after) override {
    return Started(Operation::kAllReduce, args.tag, inner_->AllReduce(args, after));
  }

 private:
  struct Call {
    Event event;
    Moment moment;
  };
  Event Started(Operation operation, Tag tag, const Event& event) {
    const std::uint64_t number = calls_.size() + 1;
    calls_.push_back({event, {Moment::kStart, group_, operation, tag, number}});
    log_->push_back(calls_.back().moment);
    return {this, number};
  }
  bool Done(std::uint64_t ticket) const override { return calls_[ticket - 1].event.Done(); }
  Status Wait(std::uint64_t ticket, WaitGuard* guard) override {
    log_->push_back(calls_[ticket - 1].moment);
    log_->back().kind = Moment::kWait;
    return calls_[ticket - 1].event.Wait(guard);
  }

  const GridGroup group_;
  Moments* const log_;
  std::deque<Call> calls_;
};

// Logs where the memory of a weight gradient is zeroed, which is just before its product.
class RecordingStream final : public PassingStream {
 public:
  RecordingStream(std::unique_ptr<Stream> inner, Moments* log) : PassingStream(std::move(inner)), log_(log) {}
  void Zero(void* to, std::int64_t bytes) override {
    log_->push_back({.kind = Moment::kZero});
    PassingStream::Zero(to, bytes);
  }

 private:
  Moments* const log_;
};

// A collective may happen at any time between its call and the wait for its event. kAtOnce: within the call; what starts it too early,
// while its result's memory is still read, is wrong. kAtLast: within the wait; what overwrites its operands before is wrong.
enum class Happens { kAtOnce, kAtLast };
class ExtremeCommunicator final : public PassingCommunicator, EventSource {
 public:
  ExtremeCommunicator(std::unique_ptr<Communicator> inner, Happens happens) : PassingCommunicator(std::move(inner)), happens_(happens) {}
  Event AllGather(const AllGatherArgs& args, const Event&) override {
    return Later([this, args] { return inner_->AllGather(args, {}); });
  }
  Event ReduceScatter(const ReduceScatterArgs& args, const Event&) override {
    return Later([this, args] { return inner_->ReduceScatter(args, {}); });
  }
  Event AllReduce(const AllReduceArgs& args, const Event&) override {
    return Later([this, args] { return inner_->AllReduce(args, {}); });
  }

 private:
  Event Later(std::function<Event()> call) {
    calls_.push_back(std::move(call));
    const Event event{this, calls_.size()};
    if (happens_ == Happens::kAtOnce) event.Wait().IgnoreError();  // sticks: waited for again
    return event;
  }
  bool Done(std::uint64_t ticket) const override { return done_ >= ticket; }
  Status Wait(std::uint64_t ticket, WaitGuard* guard) override {
    while (done_ < ticket && status_.ok()) status_ = calls_[done_++]().Wait(guard);
    return status_;
  }

  const Happens happens_;
  std::deque<std::function<Event()>> calls_;
  std::uint64_t done_ = 0;
  Status status_;
};

}  // namespace lycia

#endif  // LYCIA_TESTS_GRID_OVERLAP_FOR_TEST_H_
