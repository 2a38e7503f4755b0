// The communicator that only counts: what a rank of any world would send, without the world.
#include "runtime/comm/counted_communicator.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

class DryRunChannel final : public Channel {
 public:
  DryRunChannel(std::shared_ptr<Counters> counters, const ChannelOptions& options) : counters_(std::move(counters)), options_(options) {}

  Event Send(const ConstTensor& tensor, const Event&, const MessageHeader&) override {
    LYCIA_CHECK_LE(tensor.bytes(), options_.bytes);
    Count(*counters_, Operation::kSend, options_.tag, tensor.bytes());
    return {};
  }
  Received Receive() override { return {Event{}, static_cast<int>(received_++ % options_.credits)}; }
  const MessageHeader& header(int) const override { return header_; }
  void* data(int) const override { return nullptr; }
  void Release(int, const Event&) override {}

 private:
  const std::shared_ptr<Counters> counters_;
  const ChannelOptions options_;
  const MessageHeader header_;
  std::int64_t received_ = 0;
};

class DryRunCommunicator final : public CountedCommunicator {
 public:
  using CountedCommunicator::CountedCommunicator;

  std::string_view transport() const override { return "dry-run"; }

  StatusOr<std::unique_ptr<Channel>> OpenChannel(const ChannelOptions& options) override {
    LYCIA_RETURN_IF_ERROR(ValidateChannel(options, size()));
    return std::make_unique<DryRunChannel>(shared_counters(), options);
  }

  StatusOr<std::unique_ptr<Communicator>> Split(std::span<const int> color_of_rank) override {
    LYCIA_CHECK_EQ(color_of_rank.size(), static_cast<std::size_t>(size()));
    const std::vector<int> members = RanksOfColor(color_of_rank, rank());
    if (members.empty()) return std::unique_ptr<Communicator>();
    const auto own = std::find(members.begin(), members.end(), rank());
    return std::make_unique<DryRunCommunicator>(static_cast<int>(own - members.begin()), static_cast<int>(members.size()));
  }

  Status Barrier() override { return OkStatus(); }
  void Abort(const Status&) override {}

 protected:
  Event Enqueue(const CollectiveCall&, const Event&) override { return {}; }
};

}  // namespace

std::unique_ptr<Communicator> OpenDryRunWorld(int rank, int size) {
  LYCIA_CHECK(rank >= 0 && rank < size) << "rank " << rank << " of " << size << " ";
  return std::make_unique<DryRunCommunicator>(rank, size);
}

}  // namespace lycia
