// The pass that lowers dependencies between workers to messages; see passes.h.
//
// Receives are placed from the back: the k-th message of an ordered pair of workers is received right before the instruction that needs
// it, or right before the receive of message k + 1 if that comes earlier. This delays every receive as far as one queue per pair allows,
// and adds no waiting: when message k + 1 has arrived, k was sent before it.
#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "parallel/schedule/messages.h"
#include "parallel/schedule/passes.h"

namespace lycia::schedule {
namespace {

// First instruction of the paired block that i is in; a block receives before its first and sends after its last instruction.
std::size_t BlockStart(const std::vector<Instruction>& program, std::size_t i) {
  while (i > 0 && program[i - 1].paired_with_next) --i;
  return i;
}

std::size_t BlockEnd(const std::vector<Instruction>& program, std::size_t i) {
  while (program[i].paired_with_next && i + 1 < program.size()) ++i;
  return i;
}

// Receives to insert before an instruction, in order: by sender, then in the order sent.
struct Arrival {
  int sender;
  std::size_t sequence;
  Message message;

  bool operator<(const Arrival& other) const { return std::tie(sender, sequence) < std::tie(other.sender, other.sequence); }
};

}  // namespace

Schedule InsertCommunication(Schedule schedule) {
  const ScheduleShape& shape = schedule.shape;
  std::map<Message, std::size_t> needed_at;                                       // index in the receiver's program
  std::map<std::pair<int, int>, std::vector<Message>> sent;                       // (sender, receiver) -> messages in order
  std::vector<std::map<std::size_t, std::vector<Message>>> sends(shape.workers);  // [worker][after this index]
  for (int worker = 0; worker < shape.workers; ++worker) {
    const auto& program = schedule.program[worker];
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (const auto message = Consumes(shape, program[i])) needed_at[*message] = BlockStart(program, i);
      if (const auto message = Produces(shape, program[i])) {
        sends[worker][BlockEnd(program, i)].push_back(*message);
        sent[{worker, ReceiverOf(schedule, *message)}].push_back(*message);
      }
    }
  }
  std::vector<std::map<std::size_t, std::vector<Arrival>>> receives(shape.workers);  // [worker][before this index]
  for (const auto& [pair, messages] : sent) {
    std::optional<std::size_t> earliest;
    for (std::size_t k = messages.size(); k-- > 0;) {
      const auto needed = needed_at.find(messages[k]);
      if (needed == needed_at.end()) continue;
      earliest = earliest ? std::min(*earliest, needed->second) : needed->second;
      receives[pair.second][*earliest].push_back({pair.first, k, messages[k]});
    }
  }
  for (int worker = 0; worker < shape.workers; ++worker) {
    std::vector<Instruction> program;
    for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
      auto& arrivals = receives[worker][i];
      std::sort(arrivals.begin(), arrivals.end());
      for (const Arrival& arrival : arrivals) program.push_back(ReceiveOf(arrival.message));
      program.push_back(schedule.program[worker][i]);
      for (const Message& message : sends[worker][i]) program.push_back(SendOf(message));
    }
    schedule.program[worker] = std::move(program);
  }
  return schedule;
}

}  // namespace lycia::schedule
