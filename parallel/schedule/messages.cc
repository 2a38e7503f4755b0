#include "parallel/schedule/messages.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/core/check.h"

namespace lycia::schedule {

bool IsSend(Op op) { return op == Op::kSendActivation || op == Op::kSendGradient; }

bool IsReceive(Op op) { return op == Op::kReceiveActivation || op == Op::kReceiveGradient; }

Message MessageOf(const Instruction& transfer) {
  Message message{transfer.pipe, transfer.stage, false, transfer.micro_batch, transfer.part, transfer.parts};
  switch (transfer.op) {
    case Op::kSendActivation:
      break;
    case Op::kReceiveActivation:
      message.boundary = transfer.stage - 1;
      break;
    case Op::kSendGradient:
      message.boundary = transfer.stage - 1, message.gradient = true;
      break;
    case Op::kReceiveGradient:
      message.gradient = true;
      break;
    default:
      LYCIA_CHECK(false) << ToString(transfer) << " carries no message ";
  }
  return message;
}

std::optional<Message> Consumes(const ScheduleShape& shape, const Instruction& compute) {
  const Message message{compute.pipe, compute.stage, false, compute.micro_batch, compute.part, compute.parts};
  if (compute.op == Op::kForward && compute.stage > 0) {
    Message activation = message;
    activation.boundary = compute.stage - 1;
    return activation;
  }
  if (IsBackward(compute.op) && compute.stage < shape.stages - 1) {
    Message gradient = message;
    gradient.gradient = true;
    return gradient;
  }
  return std::nullopt;
}

std::optional<Message> Produces(const ScheduleShape& shape, const Instruction& compute) {
  Message message{compute.pipe, compute.stage, false, compute.micro_batch, compute.part, compute.parts};
  if (compute.op == Op::kForward && compute.stage < shape.stages - 1) return message;
  if (IsBackward(compute.op) && compute.stage > 0) {
    message.boundary = compute.stage - 1;
    message.gradient = true;
    return message;
  }
  return std::nullopt;
}

namespace {

Instruction Transfer(const Message& message, Op op, int stage) {
  Instruction instruction;
  instruction.op = op;
  instruction.pipe = message.pipe;
  instruction.stage = stage;
  instruction.micro_batch = message.micro_batch;
  instruction.part = message.part;
  instruction.parts = message.parts;
  return instruction;
}

int FromStage(const Message& message) { return message.gradient ? message.boundary + 1 : message.boundary; }
int ToStage(const Message& message) { return message.gradient ? message.boundary : message.boundary + 1; }

}  // namespace

Instruction SendOf(const Message& message) {
  return Transfer(message, message.gradient ? Op::kSendGradient : Op::kSendActivation, FromStage(message));
}

Instruction ReceiveOf(const Message& message) {
  return Transfer(message, message.gradient ? Op::kReceiveGradient : Op::kReceiveActivation, ToStage(message));
}

int SenderOf(const Schedule& schedule, const Message& message) { return schedule.worker_of[message.pipe][FromStage(message)]; }

int ReceiverOf(const Schedule& schedule, const Message& message) { return schedule.worker_of[message.pipe][ToStage(message)]; }

int NumChannels(const ScheduleShape& shape) { return shape.pipes * shape.stages * 2; }

int ChannelIndex(const ScheduleShape& shape, const Message& message) {
  return (message.pipe * shape.stages + message.boundary) * 2 + (message.gradient ? 1 : 0);
}

std::int64_t NumMessages(const ScheduleShape& shape, int max_parts) {
  return std::int64_t{2} * shape.stages * shape.micro_batches * max_parts;
}

// The micro-batch fixes the pipe, so the pipe is no part of the number.
std::int64_t MessageIndex(const ScheduleShape& shape, int max_parts, const Message& message) {
  const std::int64_t direction_and_boundary = message.boundary * 2 + (message.gradient ? 1 : 0);
  return (direction_and_boundary * shape.micro_batches + message.micro_batch) * max_parts + message.part;
}

WorkerPairs PairWorkers(const Schedule& schedule) {
  const std::int64_t workers = schedule.shape.workers;
  WorkerPairs pairs;
  pairs.of_channel.assign(NumChannels(schedule.shape), -1);
  std::vector<std::pair<std::int64_t, int>> keys;  // (sender * workers + receiver, channel)
  for (int pipe = 0; pipe < schedule.shape.pipes; ++pipe) {
    for (int boundary = 0; boundary + 1 < schedule.shape.stages; ++boundary) {
      for (const bool gradient : {false, true}) {
        const Message message{pipe, boundary, gradient};
        keys.emplace_back(SenderOf(schedule, message) * workers + ReceiverOf(schedule, message), ChannelIndex(schedule.shape, message));
      }
    }
  }
  std::sort(keys.begin(), keys.end());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    pairs.count += i == 0 || keys[i].first != keys[i - 1].first;
    pairs.of_channel[keys[i].second] = pairs.count - 1;
  }
  return pairs;
}

std::string ToString(const Message& message) {
  std::string text = absl::StrCat(message.gradient ? "gradient" : "activation", " of micro-batch ", message.micro_batch);
  if (message.parts > 1) absl::StrAppend(&text, " part ", static_cast<int>(message.part));
  return absl::StrCat(text, ", pipe ", message.pipe, ", stage ", FromStage(message), " -> ", ToStage(message));
}

}  // namespace lycia::schedule
