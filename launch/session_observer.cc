#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bazel/build_config.h"
#include "launch/session.h"
#include "runtime/trace/nvtx_cuda.h"

namespace lycia {
namespace {

// The message that an instruction sends or receives has one id on both sides: replica, pipe, boundary and direction, micro-batch, part.
// Boundary s lies between stages s and s + 1.
std::uint64_t MessageId(const schedule::Instruction& instruction, int replica) {
  using schedule::Op;
  const bool gradient = instruction.op == Op::kSendGradient || instruction.op == Op::kReceiveGradient;
  const bool after = instruction.op == Op::kSendActivation || instruction.op == Op::kReceiveGradient;  // the boundary after its stage
  const int boundary = after ? instruction.stage : instruction.stage - 1;
  return FlowId(replica, 2 * boundary + (gradient ? 1 : 0), instruction.pipe,
                static_cast<std::uint64_t>(instruction.micro_batch) << 8 | instruction.part);
}

}  // namespace

void SessionObserver::Begin(const schedule::Instruction& instruction, const std::string& text) {
  session_->board->Publish(session_->rank(), text, step_);
  using schedule::Op;
  const Lane lane = instruction.op == Op::kGradientSync || instruction.op == Op::kUpdate ? Lane::kSync
                    : schedule::IsCompute(instruction.op)                                ? Lane::kCompute
                                                                                         : Lane::kMessages;
  SpanRecorder::Start span{.name = text, .lane = lane, .instruction = next_++, .step = static_cast<std::int32_t>(step_)};
  if (instruction.op == Op::kSendActivation || instruction.op == Op::kSendGradient) span.flow_out = MessageId(instruction, replica_);
  if (instruction.op == Op::kReceiveActivation || instruction.op == Op::kReceiveGradient) span.flow_in = MessageId(instruction, replica_);
  open_ = recorder_.Begin(span);
  if constexpr (kCudaEnabled) cuda::BeginNvtxRange(text.c_str());
}

void SessionObserver::End(const schedule::Instruction&) {
  if constexpr (kCudaEnabled) cuda::EndNvtxRange();
  recorder_.End(open_);
}

StatusOr<std::vector<RankSpans>> GatherSpans(Communicator& world, const RankSpans& mine, WaitGuard* guard) {
  const std::string bytes = SerializeSpans(mine);
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(world.size()) + 1);
  const auto size = static_cast<std::int64_t>(bytes.size());
  LYCIA_RETURN_IF_ERROR(world
                            .AllGather({.in = ConstTensor(&size, DType::kI64, {1}),
                                        .out = Tensor{offsets.data() + 1, DType::kI64, {world.size()}},
                                        .tag = Tag::kMetrics},
                                       {})
                            .Wait(guard));
  for (std::size_t r = 1; r < offsets.size(); ++r) offsets[r] += offsets[r - 1];
  std::string all(static_cast<std::size_t>(offsets.back()), '\0');
  LYCIA_RETURN_IF_ERROR(world
                            .AllGather({.in = ConstTensor(bytes.data(), DType::kU8, {size}),
                                        .out = Tensor{all.data(), DType::kU8, {offsets.back()}},
                                        .offsets = offsets,
                                        .tag = Tag::kMetrics},
                                       {})
                            .Wait(guard));
  std::vector<RankSpans> ranks;
  if (world.rank() != 0) return ranks;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
    const auto begin = static_cast<std::size_t>(offsets[r]), end = static_cast<std::size_t>(offsets[r + 1]);
    LYCIA_ASSIGN_OR_RETURN(RankSpans spans, ParseSpans(std::string_view(all).substr(begin, end - begin)));
    ranks.push_back(std::move(spans));
  }
  return ranks;
}

}  // namespace lycia
