// The pass that lowers dependencies between workers to messages; see passes.h.
//
// Receives are placed from the back: the k-th message of an ordered pair of workers is received right before the instruction that needs
// it, or right before the receive of message k + 1 if that comes earlier. This delays every receive as far as one queue per pair allows,
// and adds no waiting: when message k + 1 has arrived, k was sent before it.
#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "parallel/schedule/activations.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/passes.h"

namespace lycia::schedule {
namespace {

// A receive to insert: before which instruction, then by sender, then in the order sent.
struct Arrival {
  int before;
  int sender;
  int sequence;
  Message message;

  bool operator<(const Arrival& other) const {
    return std::tie(before, sender, sequence) < std::tie(other.before, other.sender, other.sequence);
  }
};

// The worker's program with receives before and sends behind each block.
std::vector<Instruction> WithTransfers(const ScheduleShape& shape, const std::vector<Instruction>& program, std::vector<Arrival> arrivals) {
  std::sort(arrivals.begin(), arrivals.end());
  std::vector<Instruction> result;
  result.reserve(2 * program.size() + arrivals.size());
  auto arrival = arrivals.begin();
  for (std::size_t begin = 0; begin < program.size();) {
    const std::size_t end = BlockEnd(program, begin);
    for (; arrival != arrivals.end() && arrival->before == static_cast<int>(begin); ++arrival) {
      result.push_back(ReceiveOf(arrival->message));
    }
    for (std::size_t i = begin; i < end; ++i) result.push_back(program[i]);
    for (std::size_t i = begin; i < end; ++i) {
      if (const auto message = Produces(shape, program[i])) result.push_back(SendOf(*message));
    }
    begin = end;
  }
  return result;
}

}  // namespace

Schedule InsertCommunication(Schedule schedule) {
  const ScheduleShape& shape = schedule.shape;
  const int max_parts = MaxParts(schedule);
  const WorkerPairs pairs = PairWorkers(schedule);
  std::vector<int> needed_at(NumMessages(shape, max_parts), -1);  // index in the receiver's program
  std::vector<std::vector<Message>> sent(pairs.count);            // [pair] in order
  for (const auto& program : schedule.program) {
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (const auto message = Consumes(shape, program[i])) {
        needed_at[MessageIndex(shape, max_parts, *message)] = static_cast<int>(BlockBegin(program, i));
      }
      if (const auto message = Produces(shape, program[i])) sent[pairs.of_channel[ChannelIndex(shape, *message)]].push_back(*message);
    }
  }
  std::vector<std::vector<Arrival>> arrivals(shape.workers);
  for (const auto& messages : sent) {
    int earliest = -1;
    for (int k = static_cast<int>(messages.size()); k-- > 0;) {
      const int needed = needed_at[MessageIndex(shape, max_parts, messages[k])];
      if (needed < 0) continue;
      earliest = earliest < 0 ? needed : std::min(earliest, needed);
      arrivals[ReceiverOf(schedule, messages[k])].push_back({earliest, SenderOf(schedule, messages[k]), k, messages[k]});
    }
  }
  for (int worker = 0; worker < shape.workers; ++worker) {
    schedule.program[worker] = WithTransfers(shape, schedule.program[worker], std::move(arrivals[worker]));
  }
  return schedule;
}

}  // namespace lycia::schedule
