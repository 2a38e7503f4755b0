// A communicator and a stream that let everything through to another; tests override what they want to see or to change.
#ifndef LYCIA_TESTS_GRID_PASSING_FOR_TEST_H_
#define LYCIA_TESTS_GRID_PASSING_FOR_TEST_H_

#include <memory>
#include <string_view>
#include <utility>

#include "runtime/comm/communicator.h"
#include "runtime/device/device.h"
#include "runtime/device/thread_pool.h"

namespace lycia {

class PassingCommunicator : public Communicator {
 public:
  explicit PassingCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string_view transport() const override { return inner_->transport(); }
  Event AllGather(const AllGatherArgs& args, const Event& after) override { return inner_->AllGather(args, after); }
  Event ReduceScatter(const ReduceScatterArgs& args, const Event& after) override { return inner_->ReduceScatter(args, after); }
  Event AllReduce(const AllReduceArgs& args, const Event& after) override { return inner_->AllReduce(args, after); }
  Event Broadcast(const Tensor& tensor, int root, Tag tag, const Event& after) override {
    return inner_->Broadcast(tensor, root, tag, after);
  }
  Event AllToAllV(const AllToAllVArgs& args, const Event& after) override { return inner_->AllToAllV(args, after); }
  StatusOr<std::unique_ptr<Channel>> OpenChannel(const ChannelOptions& options) override { return inner_->OpenChannel(options); }
  StatusOr<std::unique_ptr<Communicator>> Split(std::span<const int> color_of_rank) override { return inner_->Split(color_of_rank); }
  Status Barrier() override { return inner_->Barrier(); }
  void Abort(const Status& why) override { inner_->Abort(why); }
  const Counters& counters() const override { return inner_->counters(); }

 protected:
  std::unique_ptr<Communicator> inner_;
};

// Of the CPU; computes with a pool of its own.
class PassingStream : public Stream {
 public:
  explicit PassingStream(std::unique_ptr<Stream> inner) : Stream(ThreadPool::Create({}).value()), inner_(std::move(inner)) {}
  DeviceKind kind() const override { return inner_->kind(); }
  void Copy(void* to, const void* from, std::int64_t bytes) override {
    if (ok()) inner_->Copy(to, from, bytes);
  }
  void Zero(void* to, std::int64_t bytes) override {
    if (ok()) inner_->Zero(to, bytes);
  }
  void Wait(const Event& event) override {
    if (ok()) inner_->Wait(event);
    if (!inner_->ok()) Fail(inner_->status());
  }
  Event Record() override { return inner_->Record(); }
  void Elapse(std::int64_t ns) override { inner_->Elapse(ns); }
  Status Synchronize() override { return ok() ? inner_->Synchronize() : status(); }

 protected:
  std::unique_ptr<Stream> inner_;
};

}  // namespace lycia

#endif  // LYCIA_TESTS_GRID_PASSING_FOR_TEST_H_
