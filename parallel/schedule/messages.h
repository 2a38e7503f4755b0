// What travels between stages: the one place that knows which compute instruction needs and makes which message.
//
// A message is addressed by what it carries (pipe, boundary, direction, micro-batch), never by order or rank. Boundary b lies between
// stages b and b + 1; an activation crosses it upwards, a gradient downwards. A channel is (pipe, boundary, direction): one sender,
// one receiver, one message a micro-batch (or part of one).
#ifndef LYCIA_PARALLEL_SCHEDULE_MESSAGES_H_
#define LYCIA_PARALLEL_SCHEDULE_MESSAGES_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

struct Message {
  int pipe = 0;
  int boundary = 0;
  bool gradient = false;
  int micro_batch = 0;
  std::uint8_t part = 0;
  std::uint8_t parts = 1;

  auto operator<=>(const Message&) const = default;
};

bool IsSend(Op op);
bool IsReceive(Op op);

// The message of a send or receive instruction.
Message MessageOf(const Instruction& transfer);
// The message that a compute instruction waits for: F the activation from the stage before, B and I the gradient from the stage behind.
std::optional<Message> Consumes(const ScheduleShape& shape, const Instruction& compute);
// The message that a compute instruction makes.
std::optional<Message> Produces(const ScheduleShape& shape, const Instruction& compute);

Instruction SendOf(const Message& message);
Instruction ReceiveOf(const Message& message);

int SenderOf(const Schedule& schedule, const Message& message);    // worker
int ReceiverOf(const Schedule& schedule, const Message& message);  // worker

// Dense numbers: channels of a shape, and messages when every forward and backward has at most max_parts parts.
int NumChannels(const ScheduleShape& shape);
int ChannelIndex(const ScheduleShape& shape, const Message& message);
std::int64_t NumMessages(const ScheduleShape& shape, int max_parts);
std::int64_t MessageIndex(const ScheduleShape& shape, int max_parts, const Message& message);

// Ordered pairs of workers that a channel leads from and to, numbered from 0: what shares one queue where there is one per pair.
struct WorkerPairs {
  int count = 0;
  std::vector<int> of_channel;  // [ChannelIndex]; -1 where nothing crosses
};
WorkerPairs PairWorkers(const Schedule& schedule);

std::string ToString(const Message& message);  // "activation of micro-batch 3, pipe 0, stage 1 -> 2"

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_MESSAGES_H_
