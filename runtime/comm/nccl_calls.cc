// The calls of a communicator: NCCL's collectives, or the control world's where only the host reaches the operands.
#include <cuda_runtime_api.h>

#include "runtime/comm/nccl_communicator.h"
#include "runtime/core/check.h"

namespace lycia::nccl {
namespace {

// An operand of nothing lies nowhere.
bool OnlyHostReaches(const void* data, std::int64_t elements) {
  cudaPointerAttributes attributes{};
  if (elements == 0 || cudaPointerGetAttributes(&attributes, data) != cudaSuccess) return false;
  return attributes.type == cudaMemoryTypeUnregistered;
}

Event OnControl(Communicator& control, const CollectiveCall& call) {
  const ConstTensor in(call.in, call.dtype, {call.elements});
  const Tensor out{call.out, call.dtype, {call.elements}};
  const std::int64_t shard = ShardPart(call.offsets, call.elements, control.size(), control.rank()).elements;
  switch (call.operation) {
    case Operation::kAllReduce:
      return control.AllReduce({.in = in, .out = out, .fold = call.fold}, {});
    case Operation::kAllGather:
      return control.AllGather({.in = ConstTensor(call.in, call.dtype, {shard}), .out = out, .offsets = call.offsets}, {});
    case Operation::kReduceScatter:
      return control.ReduceScatter(
          {.in = in, .out = Tensor{call.out, call.dtype, {shard}}, .offsets = call.offsets, .accumulate = call.accumulate}, {});
    case Operation::kBroadcast:
      return control.Broadcast(out, call.root, Tag::kTest, {});
    case Operation::kAllToAllV:
      return control.AllToAllV({.in = in,
                                .out = Tensor{call.out, call.dtype, {call.receive_offsets.back()}},
                                .send_offsets = call.offsets,
                                .receive_offsets = call.receive_offsets},
                               {});
    default:
      LYCIA_CHECK(false) << "operation " << Name(call.operation) << " is not a collective ";
  }
  return {};
}

}  // namespace

Event NcclCommunicator::Enqueue(const CollectiveCall& call, const Event& after) {
  const std::int64_t shard = ShardPart(call.offsets, call.elements, size(), rank()).elements;
  const std::int64_t in = call.operation == Operation::kAllGather ? shard : call.elements;
  const std::int64_t out = call.operation == Operation::kReduceScatter ? shard
                           : call.operation == Operation::kAllToAllV   ? call.receive_offsets.back()
                                                                       : call.elements;
  const bool host = OnlyHostReaches(call.in, in) || OnlyHostReaches(call.out, out);
  const Event event = state_->issuer.Enqueue(*lane_, *this, {.after = after, .host = host, .collective = call});
  state_->engine->Wake();
  return event;
}

// The host's part follows what NCCL has not ended yet.
bool NcclCommunicator::Ready(const Call& call) { return !call.host || lane_->events.Passed(lane_->events.recorded()); }

std::int64_t NcclCommunicator::StepsOf(const Call& call) {
  return call.host ? 1 : nccl::StepsOf(call.collective, size(), state_->options.sums, scratch_);
}

Status NcclCommunicator::Issue(const Call& call, std::int64_t step) {
  if (!call.host) return IssueStep(call.collective, step, *lane_, state_->options.sums, scratch_);
  host_event_ = OnControl(*control_, call.collective);
  return OkStatus();
}

Status NcclCommunicator::Finish(const Call& call, std::int64_t step) {
  return call.host ? OkStatus() : FinishStep(call.collective, step, *lane_, state_->options.sums, scratch_);
}

}  // namespace lycia::nccl
