#include "runtime/comm/order_check.h"

#include <array>
#include <utility>

namespace lycia {
namespace {

class Deadline final : public WaitGuard {
 public:
  explicit Deadline(std::int64_t ns) : ns_(ns) {}
  Status StillWaiting(std::int64_t waited_ns) override { return waited_ns < ns_ ? OkStatus() : absl::DeadlineExceededError("deadline"); }

 private:
  const std::int64_t ns_;
};

// What a rank says of its next collective: place, place among all, operation, tag, type, size.
using Said = std::array<std::int64_t, 6>;

std::string ToString(int rank, const Said& said) {
  return StrCat("rank ", rank, " is at its collective ", said[0], " there (", said[1], " of all): ", Name(static_cast<Operation>(said[2])),
                " ", Name(static_cast<Tag>(said[3])), " ", Name(static_cast<DType>(said[4])), "[", said[5], "]");
}

class OrderCheckedCommunicator final : public Communicator {
 public:
  OrderCheckedCommunicator(std::unique_ptr<Communicator> inner, std::string name, OrderLog* log, std::int64_t deadline_ns)
      : inner_(std::move(inner)), name_(std::move(name)), log_(log), deadline_(deadline_ns), said_(static_cast<std::size_t>(size())) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string_view transport() const override { return inner_->transport(); }

  Event AllGather(const AllGatherArgs& args, const Event& after) override {
    Check(Operation::kAllGather, args.tag, args.out.dtype, args.out.elements());
    return inner_->AllGather(args, after);
  }
  Event ReduceScatter(const ReduceScatterArgs& args, const Event& after) override {
    Check(Operation::kReduceScatter, args.tag, args.in.dtype, args.in.elements());
    return inner_->ReduceScatter(args, after);
  }
  Event AllReduce(const AllReduceArgs& args, const Event& after) override {
    Check(Operation::kAllReduce, args.tag, args.in.dtype, args.in.elements());
    return inner_->AllReduce(args, after);
  }
  Event Broadcast(const Tensor& tensor, int root, Tag tag, const Event& after) override {
    Check(Operation::kBroadcast, tag, tensor.dtype, tensor.elements());
    return inner_->Broadcast(tensor, root, tag, after);
  }
  Event AllToAllV(const AllToAllVArgs& args, const Event& after) override {
    Check(Operation::kAllToAllV, args.tag, args.in.dtype, 0);  // sizes are each rank's own
    return inner_->AllToAllV(args, after);
  }
  StatusOr<std::unique_ptr<Channel>> OpenChannel(const ChannelOptions& options) override { return inner_->OpenChannel(options); }
  StatusOr<std::unique_ptr<Communicator>> Split(std::span<const int> color_of_rank) override { return inner_->Split(color_of_rank); }
  Status Barrier() override { return inner_->Barrier(); }
  void Abort(const Status& why) override { inner_->Abort(why); }
  const Counters& counters() const override { return inner_->counters(); }

 private:
  // After an abort the collective that follows fails with its status.
  void Check(Operation operation, Tag tag, DType dtype, std::int64_t elements) {
    own_ = {place_,
            static_cast<std::int64_t>(log_->entries.size()),
            static_cast<std::int64_t>(operation),
            static_cast<std::int64_t>(tag),
            static_cast<std::int64_t>(dtype),
            elements};
    log_->entries.push_back({name_, place_, operation, tag, dtype, elements});
    ++place_;
    constexpr std::int64_t kNumbers = std::tuple_size_v<Said>;
    const Status status =
        inner_
            ->AllGather(
                {.in = {own_.data(), DType::kI64, {kNumbers}}, .out = {said_.data(), DType::kI64, {kNumbers * size()}}, .tag = Tag::kSetup},
                {})
            .Wait(&deadline_);
    if (status.code() == absl::StatusCode::kDeadlineExceeded) {
      return Abort(absl::DeadlineExceededError(
          StrCat("collectives along ", name_, ": ", ToString(rank(), own_), "; another rank of the group did not come")));
    }
    if (!status.ok() || inner_->transport() == "dry-run") return;
    for (int r = 0; r < size(); ++r) {
      const Said& other = said_[static_cast<std::size_t>(r)];
      if (other == own_) continue;
      return Abort(absl::InternalError(
          StrCat("collectives along ", name_, " are called in different orders: ", ToString(rank(), own_), "; ", ToString(r, other))));
    }
  }

  const std::unique_ptr<Communicator> inner_;
  const std::string name_;
  OrderLog* const log_;
  Deadline deadline_;
  std::int64_t place_ = 0;
  Said own_{};
  std::vector<Said> said_;
};

}  // namespace

std::string OrderLog::Entry::ToString() const {
  return StrCat(communicator, " ", place, ": ", Name(operation), " ", Name(tag), " ", Name(dtype), "[", elements, "]");
}

std::unique_ptr<Communicator> CheckOrder(std::unique_ptr<Communicator> communicator, std::string name, OrderLog* log,
                                         std::int64_t deadline_ns) {
  return std::make_unique<OrderCheckedCommunicator>(std::move(communicator), std::move(name), log, deadline_ns);
}

}  // namespace lycia
