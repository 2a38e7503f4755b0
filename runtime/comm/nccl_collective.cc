#include "runtime/comm/nccl_collective.h"

#include <algorithm>

#include "runtime/comm/fold_cuda.h"
#include "runtime/comm/nccl_error.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_error.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::nccl {
namespace {

constexpr std::int64_t kScratchBytes = std::int64_t{8} << 20;  // of one communicator
constexpr std::int64_t kSmallestSegment = std::int64_t{64} << 10;

// The parts that the ranks own: shards of a reduce-scatter or all-gather, balanced parts of an all-reduce.
Part PartOf(const CollectiveCall& call, int size, int rank) {
  return call.operation == Operation::kAllReduce ? BalancedPart(call.elements, size, rank)
                                                 : ShardPart(call.offsets, call.elements, size, rank);
}

bool Equal(const CollectiveCall& call, int size) {
  for (int r = 1; r < size; ++r) {
    if (PartOf(call, size, r).elements != PartOf(call, size, 0).elements) return false;
  }
  return true;
}

std::int64_t LargestPart(const CollectiveCall& call, int size) {
  std::int64_t largest = 0;
  for (int r = 0; r < size; ++r) largest = std::max(largest, PartOf(call, size, r).elements);
  return largest;
}

// Elements of each part that are summed at a time through the scratch memory.
std::int64_t SegmentElements(const CollectiveCall& call, int size, const Scratch& scratch) {
  return scratch.bytes / size / 16 * 16 / SizeOf(call.dtype);
}

std::int64_t Segments(const CollectiveCall& call, int size, const Scratch& scratch) {
  const std::int64_t segment = SegmentElements(call, size, scratch);
  return (LargestPart(call, size) + segment - 1) / segment;
}

bool ThroughScratch(const CollectiveCall& call, Sums sums) {
  if (call.operation == Operation::kReduceScatter) return sums == Sums::kInRankOrder || call.accumulate;
  return call.operation == Operation::kAllReduce && sums == Sums::kInRankOrder;
}

class Step {
 public:
  Step(const CollectiveCall& call, Lane& lane, Sums sums, const Scratch& scratch)
      : call_(call),
        lane_(lane),
        sums_(sums),
        scratch_(scratch),
        type_(TypeOf(call.dtype)),
        element_(SizeOf(call.dtype)),
        stream_(cuda::TargetOf(*lane.stream).stream) {
    // NCCL's largest of signed numbers needs to know that they are.
    if (call.dtype == DType::kI64 && call.fold == Fold::kLargest) type_ = ncclInt64;
  }

  Status Issue(std::int64_t step) {
    if (ThroughScratch(call_, sums_)) {
      const std::int64_t segments = Segments(call_, size(), scratch_);
      if (step < segments) return sums_ == Sums::kInRankOrder ? FoldSegment(step) : ReduceSegment(step);
      if (call_.operation == Operation::kReduceScatter) return OkStatus();  // of nothing
      return Gather(out(), /*in_place=*/true);                              // of an all-reduce
    }
    switch (call_.operation) {
      case Operation::kAllReduce:
        return AllReduce();
      case Operation::kReduceScatter:
        return ReduceScatter();
      case Operation::kAllGather:
        return Gather(in(), /*in_place=*/false);
      case Operation::kBroadcast:
        return Broadcast();
      case Operation::kAllToAllV:
        return AllToAllV();
      default:
        LYCIA_CHECK(false) << "operation " << Name(call_.operation) << " is not a collective ";
    }
    return OkStatus();
  }

  // What a step does on the stream after NCCL's part.
  Status Finish(std::int64_t step) {
    if (!ThroughScratch(call_, sums_) || step >= Segments(call_, size(), scratch_)) return OkStatus();
    const Part own = Segment(rank(), step);
    if (own.elements == 0) return OkStatus();
    cuda::FoldArgs args{.dtype = call_.dtype, .fold = call_.fold, .accumulate = call_.accumulate, .elements = own.elements};
    const std::int64_t result = call_.operation == Operation::kAllReduce ? own.offset : own.offset - PartOf(call_, size(), rank()).offset;
    args.out = out() + result * element_;
    if (sums_ == Sums::kInRankOrder) {
      args.count = size();
      for (int r = 0; r < size(); ++r) args.sources[r] = r == rank() ? in() + own.offset * element_ : Slot(r);
    } else {
      args.count = 1;
      args.sources[0] = Slot(0);
    }
    if (args.count == 1 && args.sources[0] == args.out && !args.accumulate) return OkStatus();
    return LYCIA_CUDA_STATUS(cuda::LaunchFold(stream_, cuda::TargetOf(*lane_.stream).multiprocessors, args), Describe(call_));
  }

 private:
  int size() const { return lane_.size; }
  int rank() const { return lane_.rank; }
  const char* in() const { return static_cast<const char*>(call_.in); }
  char* out() const { return static_cast<char*>(call_.out); }
  std::size_t Count(std::int64_t elements) const { return static_cast<std::size_t>(elements); }
  ncclRedOp_t Fold() const { return call_.fold == lycia::Fold::kSum ? ncclSum : ncclMax; }
  char* Slot(int r) const { return scratch_.memory + r * SegmentElements(call_, size(), scratch_) * element_; }
  std::string Numbers() const { return StrCat(Describe(call_), ", ", lane_.Where()); }

  // The elements of rank r's part in segment `step`; offset is in the whole buffer.
  Part Segment(int r, std::int64_t step) const {
    const Part part = PartOf(call_, size(), r);
    const std::int64_t segment = SegmentElements(call_, size(), scratch_), begin = std::min(step * segment, part.elements);
    return {part.offset + begin, std::min(segment, part.elements - begin)};
  }

  template <typename Calls>
  Status Group(const Calls& calls) {
    LYCIA_RETURN_IF_ERROR(LYCIA_NCCL_STATUS(lane_.comm, ncclGroupStart(), Numbers()));
    const Status called = calls();
    const Status ended = LYCIA_NCCL_STATUS(lane_.comm, ncclGroupEnd(), Numbers());
    return called.ok() ? ended : called;
  }

  Status SendTo(int r, const void* data, std::int64_t elements) {
    if (elements == 0) return OkStatus();
    return LYCIA_NCCL_STATUS(lane_.comm, ncclSend(data, Count(elements), type_, r, lane_.comm, stream_), elements, " elements to ", r, ", ",
                             Numbers());
  }
  Status ReceiveFrom(int r, void* data, std::int64_t elements) {
    if (elements == 0) return OkStatus();
    return LYCIA_NCCL_STATUS(lane_.comm, ncclRecv(data, Count(elements), type_, r, lane_.comm, stream_), elements, " elements from ", r,
                             ", ", Numbers());
  }

  Status AllReduce() {
    if (call_.elements == 0) return OkStatus();
    return LYCIA_NCCL_STATUS(lane_.comm, ncclAllReduce(in(), out(), Count(call_.elements), type_, Fold(), lane_.comm, stream_), Numbers());
  }

  Status ReduceScatter() {
    if (call_.elements == 0) return OkStatus();
    if (Equal(call_, size())) {
      const std::int64_t shard = PartOf(call_, size(), 0).elements;
      return LYCIA_NCCL_STATUS(lane_.comm, ncclReduceScatter(in(), out(), Count(shard), type_, ncclSum, lane_.comm, stream_), Numbers());
    }
    return Group([&]() -> Status {
      for (int r = 0; r < size(); ++r) LYCIA_RETURN_IF_ERROR(ReduceTo(r, PartOf(call_, size(), r), out()));
      return OkStatus();
    });
  }

  Status ReduceTo(int root, const Part& part, void* result) {
    if (part.elements == 0) return OkStatus();
    return LYCIA_NCCL_STATUS(lane_.comm,
                             ncclReduce(in() + part.offset * element_, root == rank() ? result : nullptr, Count(part.elements), type_,
                                        ncclSum, root, lane_.comm, stream_),
                             part.elements, " elements to ", root, ", ", Numbers());
  }

  // NCCL's sum of one segment into the scratch memory, to be added to the result.
  Status ReduceSegment(std::int64_t step) {
    return Group([&]() -> Status {
      for (int r = 0; r < size(); ++r) LYCIA_RETURN_IF_ERROR(ReduceTo(r, Segment(r, step), Slot(0)));
      return OkStatus();
    });
  }

  // Everybody's share of one segment of this rank's part into the scratch memory, to be added in rank order.
  Status FoldSegment(std::int64_t step) {
    return Group([&]() -> Status {
      const Part own = Segment(rank(), step);
      for (int r = 0; r < size(); ++r) {
        if (r == rank()) continue;
        const Part part = Segment(r, step);
        LYCIA_RETURN_IF_ERROR(SendTo(r, in() + part.offset * element_, part.elements));
        LYCIA_RETURN_IF_ERROR(ReceiveFrom(r, Slot(r), own.elements));
      }
      return OkStatus();
    });
  }

  Status Gather(const char* own, bool in_place) {
    if (call_.elements == 0) return OkStatus();
    const Part mine = PartOf(call_, size(), rank());
    const char* from = in_place ? own + mine.offset * element_ : own;
    if (Equal(call_, size())) {
      return LYCIA_NCCL_STATUS(lane_.comm, ncclAllGather(from, out(), Count(mine.elements), type_, lane_.comm, stream_), Numbers());
    }
    return Group([&]() -> Status {
      for (int r = 0; r < size(); ++r) {
        const Part part = PartOf(call_, size(), r);
        if (part.elements == 0) continue;
        char* to = out() + part.offset * element_;
        LYCIA_RETURN_IF_ERROR(
            LYCIA_NCCL_STATUS(lane_.comm, ncclBroadcast(r == rank() ? from : to, to, Count(part.elements), type_, r, lane_.comm, stream_),
                              part.elements, " elements of ", r, ", ", Numbers()));
      }
      return OkStatus();
    });
  }

  Status Broadcast() {
    if (call_.elements == 0) return OkStatus();
    return LYCIA_NCCL_STATUS(lane_.comm, ncclBroadcast(out(), out(), Count(call_.elements), type_, call_.root, lane_.comm, stream_),
                             Numbers());
  }

  Status AllToAllV() {
    const Part self = ShardPart(call_.offsets, 0, size(), rank()), back = ShardPart(call_.receive_offsets, 0, size(), rank());
    lane_.stream->Copy(out() + back.offset * element_, in() + self.offset * element_, self.elements * element_);
    return Group([&]() -> Status {
      for (int r = 0; r < size(); ++r) {
        if (r == rank()) continue;
        const Part sent = ShardPart(call_.offsets, 0, size(), r), received = ShardPart(call_.receive_offsets, 0, size(), r);
        LYCIA_RETURN_IF_ERROR(SendTo(r, in() + sent.offset * element_, sent.elements));
        LYCIA_RETURN_IF_ERROR(ReceiveFrom(r, out() + received.offset * element_, received.elements));
      }
      return OkStatus();
    });
  }

  const CollectiveCall& call_;
  Lane& lane_;
  const Sums sums_;
  const Scratch scratch_;
  ncclDataType_t type_;
  const std::int64_t element_;
  const cudaStream_t stream_;
};

}  // namespace

std::int64_t ScratchBytes(int size) { return std::max(kScratchBytes, kSmallestSegment * size); }

std::int64_t StepsOf(const CollectiveCall& call, int size, Sums sums, const Scratch& scratch) {
  if (!ThroughScratch(call, sums)) return 1;
  const std::int64_t gather = call.operation == Operation::kAllReduce ? 1 : 0;
  return std::max<std::int64_t>(Segments(call, size, scratch) + gather, 1);
}

Status IssueStep(const CollectiveCall& call, std::int64_t step, Lane& lane, Sums sums, const Scratch& scratch) {
  return Step(call, lane, sums, scratch).Issue(step);
}

Status FinishStep(const CollectiveCall& call, std::int64_t step, Lane& lane, Sums sums, const Scratch& scratch) {
  return Step(call, lane, sums, scratch).Finish(step);
}

std::string Describe(const CollectiveCall& call) { return StrCat(Name(call.operation), " of ", call.elements, " ", Name(call.dtype)); }

}  // namespace lycia::nccl
