// The Communicator over NCCL.
#ifndef LYCIA_RUNTIME_COMM_NCCL_COMMUNICATOR_H_
#define LYCIA_RUNTIME_COMM_NCCL_COMMUNICATOR_H_

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/comm/counted_communicator.h"
#include "runtime/comm/nccl_channel.h"
#include "runtime/comm/nccl_collective.h"
#include "runtime/comm/nccl_issuer.h"
#include "runtime/comm/nccl_rank.h"

namespace lycia::nccl {

class NcclCommunicator final : public CountedCommunicator, private LaneUser {
 public:
  // control: the same ranks, by messages of the host.
  NcclCommunicator(std::shared_ptr<RankState> state, std::shared_ptr<Communicator> control, std::unique_ptr<Lane> lane);
  ~NcclCommunicator() override;
  Status Open();  // memory

  std::string_view transport() const override { return "nccl"; }
  StatusOr<std::unique_ptr<Channel>> OpenChannel(const ChannelOptions& options) override;
  StatusOr<std::unique_ptr<Communicator>> Split(std::span<const int> color_of_rank) override;
  Status Barrier() override;
  void Abort(const Status& why) override { state_->Abort(why); }

 protected:
  Event Enqueue(const CollectiveCall& call, const Event& after) override;

 private:
  bool Ready(const Call& call) override;
  std::int64_t StepsOf(const Call& call) override;
  Status Issue(const Call& call, std::int64_t step) override;
  Status Finish(const Call& call, std::int64_t step) override;
  bool HostDone() override { return host_event_.Done(); }
  std::string ToString(const Call& call) const override { return Describe(call.collective); }

  // Nothing is open on the lane, here and, as the ranks have met, on theirs.
  Status AgreeAndDrain(std::string_view what);
  // Splits off a lane; null where color is NCCL_SPLIT_NOCOLOR. Collective.
  StatusOr<std::unique_ptr<Lane>> SplitLane(int color, std::string name, int rank, int size, bool collective);
  // Lanes to and from every other rank, as rounds of pairs. Collective, with the first channel.
  Status OpenLinks();

  const std::shared_ptr<RankState> state_;
  const std::shared_ptr<Communicator> control_;
  Event host_event_;  // of the control world's part of a call of the host
  const std::unique_ptr<Lane> lane_;
  Buffer scratch_memory_;
  Scratch scratch_;
  bool links_open_ = false;
  std::vector<std::shared_ptr<OutwardLink>> outward_;  // by peer; null for oneself
  std::vector<std::shared_ptr<InwardLink>> inward_;
  std::vector<std::shared_ptr<void>> links_;                      // both kinds, as they were made
  std::map<std::pair<int, int>, std::weak_ptr<SelfPipe>> pipes_;  // by (channel lane, generation)
  std::map<std::tuple<int, bool, int>, int> opened_;              // channels by (peer, sender, lane)
};

}  // namespace lycia::nccl

#endif  // LYCIA_RUNTIME_COMM_NCCL_COMMUNICATOR_H_
