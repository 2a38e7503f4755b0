#include "runtime/comm/counted_communicator.h"

#include "runtime/comm/fold.h"

namespace lycia {

std::vector<int> RanksOfColor(std::span<const int> color_of_rank, int rank) {
  std::vector<int> ranks;
  const int color = color_of_rank[static_cast<std::size_t>(rank)];
  for (std::size_t r = 0; color >= 0 && r < color_of_rank.size(); ++r) {
    if (color_of_rank[r] == color) ranks.push_back(static_cast<int>(r));
  }
  return ranks;
}

Status ValidateChannel(const ChannelOptions& options, int size) {
  if (options.peer < 0 || options.peer >= size) return InvalidArgument("channel peer ", options.peer, " is not one of ", size, " ranks");
  if (options.lane < 0) return InvalidArgument("channel lane ", options.lane, " is negative");
  if (options.bytes < 0) return InvalidArgument("channel messages of ", options.bytes, " bytes");
  if (options.credits < 1) return InvalidArgument("a channel needs at least 1 credit, not ", options.credits);
  if (options.send_window < 1) return InvalidArgument("a channel needs a send_window of at least 1, not ", options.send_window);
  return OkStatus();
}

void CountedCommunicator::CountElements(Operation operation, Tag tag, DType dtype, std::int64_t elements) {
  Count(*counters_, operation, tag, elements * SizeOf(dtype));
}

void CountedCommunicator::CheckOffsets(std::span<const std::int64_t> offsets, std::int64_t elements) const {
  if (offsets.empty()) {
    LYCIA_CHECK_EQ(elements % size_, 0) << "elements do not divide into " << size_ << " equal shards; give offsets ";
    return;
  }
  LYCIA_CHECK_EQ(offsets.size(), static_cast<std::size_t>(size_) + 1);
  LYCIA_CHECK_EQ(offsets.front(), 0);
  LYCIA_CHECK_EQ(offsets.back(), elements);
}

Event CountedCommunicator::AllGather(const AllGatherArgs& args, const Event& after) {
  const std::int64_t elements = args.out.elements();
  LYCIA_CHECK(args.in.dtype == args.out.dtype) << Name(args.in.dtype) << " against " << Name(args.out.dtype) << " ";
  CheckOffsets(args.offsets, elements);
  const Part own = ShardPart(args.offsets, elements, size_, rank_);
  LYCIA_CHECK_EQ(args.in.elements(), own.elements);
  CountElements(Operation::kAllGather, args.tag, args.out.dtype, elements - own.elements);
  return Enqueue({.operation = Operation::kAllGather, .dtype = args.out.dtype, .in = args.in.data, .out = args.out.data,
                  .elements = elements, .offsets = args.offsets}, after);
}

Event CountedCommunicator::ReduceScatter(const ReduceScatterArgs& args, const Event& after) {
  const std::int64_t elements = args.in.elements();
  LYCIA_CHECK(args.in.dtype == args.out.dtype && CanFold(args.in.dtype)) << Name(args.in.dtype) << " into " << Name(args.out.dtype) << " ";
  CheckOffsets(args.offsets, elements);
  const Part own = ShardPart(args.offsets, elements, size_, rank_);
  LYCIA_CHECK_EQ(args.out.elements(), own.elements);
  CountElements(Operation::kReduceScatter, args.tag, args.in.dtype, (size_ - 1) * own.elements);
  return Enqueue({.operation = Operation::kReduceScatter, .dtype = args.in.dtype, .in = args.in.data, .out = args.out.data,
                  .elements = elements, .offsets = args.offsets, .accumulate = args.accumulate}, after);
}

Event CountedCommunicator::AllReduce(const AllReduceArgs& args, const Event& after) {
  const std::int64_t elements = args.in.elements();
  LYCIA_CHECK(args.in.dtype == args.out.dtype && CanFold(args.in.dtype)) << Name(args.in.dtype) << " into " << Name(args.out.dtype) << " ";
  LYCIA_CHECK_EQ(args.out.elements(), elements);
  // A reduce-scatter of balanced parts, then their all-gather; the wire may do it otherwise.
  const std::int64_t own = BalancedPart(elements, size_, rank_).elements;
  CountElements(Operation::kAllReduce, args.tag, args.in.dtype, (size_ - 1) * own + elements - own);
  return Enqueue({.operation = Operation::kAllReduce, .dtype = args.in.dtype, .in = args.in.data, .out = args.out.data,
                  .elements = elements, .fold = args.fold}, after);
}

Event CountedCommunicator::Broadcast(const Tensor& tensor, int root, Tag tag, const Event& after) {
  LYCIA_CHECK(root >= 0 && root < size_) << "root " << root << " of " << size_ << " ranks ";
  CountElements(Operation::kBroadcast, tag, tensor.dtype, rank_ == root ? 0 : tensor.elements());
  return Enqueue({.operation = Operation::kBroadcast, .dtype = tensor.dtype, .in = tensor.data, .out = tensor.data,
                  .elements = tensor.elements(), .root = root}, after);
}

Event CountedCommunicator::AllToAllV(const AllToAllVArgs& args, const Event& after) {
  LYCIA_CHECK(args.in.dtype == args.out.dtype) << Name(args.in.dtype) << " against " << Name(args.out.dtype) << " ";
  LYCIA_CHECK_EQ(args.send_offsets.size(), static_cast<std::size_t>(size_) + 1);
  LYCIA_CHECK_EQ(args.receive_offsets.size(), static_cast<std::size_t>(size_) + 1);
  LYCIA_CHECK_LE(args.send_offsets.back(), args.in.elements());
  LYCIA_CHECK_LE(args.receive_offsets.back(), args.out.elements());
  const std::int64_t self = ShardPart(args.send_offsets, 0, size_, rank_).elements;
  LYCIA_CHECK_EQ(ShardPart(args.receive_offsets, 0, size_, rank_).elements, self) << "sent to and received from oneself ";
  CountElements(Operation::kAllToAllV, args.tag, args.in.dtype, args.send_offsets.back() - args.send_offsets.front() - self);
  return Enqueue({.operation = Operation::kAllToAllV, .dtype = args.in.dtype, .in = args.in.data, .out = args.out.data,
                  .elements = args.in.elements(), .offsets = args.send_offsets, .receive_offsets = args.receive_offsets}, after);
}

}  // namespace lycia
