// What every transport does alike: checks operands, counts calls and logical bytes, and turns operands into one plain call.
#ifndef LYCIA_RUNTIME_COMM_COUNTED_COMMUNICATOR_H_
#define LYCIA_RUNTIME_COMM_COUNTED_COMMUNICATOR_H_

#include <memory>
#include <vector>

#include "runtime/comm/collective_call.h"
#include "runtime/comm/communicator.h"

namespace lycia {

inline void Count(Counters& counters, Operation operation, Tag tag, std::int64_t bytes) {
  Counter& counter = counters.of[static_cast<std::size_t>(operation)][static_cast<std::size_t>(tag)];
  ++counter.calls;
  counter.bytes += bytes;
}

// Ranks of the parent with this rank's color, ascending; empty for color -1.
std::vector<int> RanksOfColor(std::span<const int> color_of_rank, int rank);
// Peer, lane and counts of a channel make sense: InvalidArgument with the number otherwise.
Status ValidateChannel(const ChannelOptions& options, int size);

class CountedCommunicator : public Communicator {
 public:
  CountedCommunicator(int rank, int size) : rank_(rank), size_(size) {}

  int rank() const final { return rank_; }
  int size() const final { return size_; }
  Event AllGather(const AllGatherArgs& args, const Event& after) final;
  Event ReduceScatter(const ReduceScatterArgs& args, const Event& after) final;
  Event AllReduce(const AllReduceArgs& args, const Event& after) final;
  Event Broadcast(const Tensor& tensor, int root, Tag tag, const Event& after) final;
  Event AllToAllV(const AllToAllVArgs& args, const Event& after) final;
  const Counters& counters() const final { return *counters_; }

 protected:
  virtual Event Enqueue(const CollectiveCall& call, const Event& after) = 0;
  // Outlives this communicator in its channels.
  const std::shared_ptr<Counters>& shared_counters() const { return counters_; }

 private:
  void CountElements(Operation operation, Tag tag, DType dtype, std::int64_t elements);
  void CheckOffsets(std::span<const std::int64_t> offsets, std::int64_t elements) const;

  const int rank_;
  const int size_;
  std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
};

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_COUNTED_COMMUNICATOR_H_
