// Verify: runs the programs under the strictest message system that a schedule must live with; see verify.h.
//
// Each channel has `credits` buffers at its receiver; a receive is posted when a buffer is free, and a buffer is free again when the
// instruction that used the message is done. A send waits until its message's receive is posted, and meanwhile its worker does nothing
// else. By channel, receives of different channels are posted independently; by pair, those of one ordered pair of workers are posted
// in the order of the receiver's program, which also keeps a message from overtaking the one before. Gradient synchronisation is
// asynchronous: a worker's sets form a queue, its update waits until the queue is empty, and a set is done when it is at the head of
// every member's queue. Waiting only ever ends by progress elsewhere, so the outcome does not depend on the order of the replay.
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

class Machine {
 public:
  Machine(const Schedule& schedule, int credits, Matching matching)
      : schedule_(schedule),
        matching_(matching),
        free_(NumChannels(schedule.shape), credits),
        arrived_(NumChannels(schedule.shape), 0),
        posted_(NumChannels(schedule.shape), 0),
        pairs_(schedule.shape.workers * schedule.shape.workers),
        syncs_(schedule.shape.workers) {
    for (int worker = 0; worker < schedule.shape.workers; ++worker) {
      at_.push_back({worker, 0});
      for (const Instruction& instruction : schedule.program[worker]) {
        if (IsReceive(instruction.op)) PairOf(MessageOf(instruction)).push_back(MessageOf(instruction));
      }
    }
  }

  // One instruction of the worker, if it need not wait.
  bool Step(Place& place) {
    const Instruction& instruction = schedule_.program[place.worker][place.index];
    if (IsSend(instruction.op) && !Send(MessageOf(instruction))) return false;
    if (IsReceive(instruction.op)) {
      int& arrived = arrived_[Channel(MessageOf(instruction))];
      if (arrived == 0) return false;
      --arrived;
    }
    if (instruction.op == Op::kUpdate && !syncs_[place.worker].empty()) return false;
    if (instruction.op == Op::kGradientSync) syncs_[place.worker].push_back(instruction.sync_set), FinishSyncs();
    if (const auto used = Consumes(schedule_.shape, instruction)) ++free_[Channel(*used)];
    ++place.index;
    return true;
  }

  std::vector<Place>& at() { return at_; }

  std::string WaitsFor(const Place& place) const {
    const Instruction& instruction = schedule_.program[place.worker][place.index];
    if (instruction.op == Op::kUpdate) return absl::StrCat("gradient synchronisation of set ", syncs_[place.worker].front());
    const Message message = MessageOf(instruction);
    const int peer = IsSend(instruction.op) ? ReceiverOf(schedule_, message) : SenderOf(schedule_, message);
    return absl::StrCat("worker ", peer, IsSend(instruction.op) ? " to take the " : " to send the ", ToString(message));
  }

 private:
  int Channel(const Message& message) const { return ChannelIndex(schedule_.shape, message); }

  // Receives that the pair's receiver has not posted yet, in the order of its program.
  std::deque<Message>& PairOf(const Message& message) {
    return pairs_[SenderOf(schedule_, message) * schedule_.shape.workers + ReceiverOf(schedule_, message)];
  }

  bool Send(const Message& message) {
    const int channel = Channel(message);
    if (matching_ == Matching::kByPair) {
      auto& queue = PairOf(message);
      while (!queue.empty() && free_[Channel(queue.front())] > 0) {
        --free_[Channel(queue.front())];
        ++posted_[Channel(queue.front())];
        queue.pop_front();
      }
      if (posted_[channel] == 0) return false;
      --posted_[channel];
    } else {
      if (free_[channel] == 0) return false;
      --free_[channel];
    }
    ++arrived_[channel];
    return true;
  }

  void FinishSyncs() {
    for (bool progress = true; progress;) {
      progress = false;
      for (int set = 0; set < static_cast<int>(schedule_.sync_sets.size()); ++set) {
        const auto members = WorkersOfSyncSet(schedule_, schedule_.sync_sets[set]);
        bool all = true;
        for (const int worker : members) all = all && !syncs_[worker].empty() && syncs_[worker].front() == set;
        for (const int worker : members) {
          if (all) syncs_[worker].pop_front();
        }
        progress = progress || all;
      }
    }
  }

  const Schedule& schedule_;
  const Matching matching_;
  std::vector<Place> at_;
  std::vector<int> free_;                   // [channel] buffers without a receive posted or a message in them
  std::vector<int> arrived_;                // [channel] messages there, not yet received by an instruction
  std::vector<int> posted_;                 // [channel] receives posted and still empty (kByPair)
  std::vector<std::deque<Message>> pairs_;  // [sender * workers + receiver]
  std::vector<std::deque<int>> syncs_;      // [worker] sets joined and not done
};

}  // namespace

Status Replay(const Schedule& schedule, int credits, Matching matching) {
  Machine machine(schedule, credits, matching);
  for (bool progress = true; progress;) {
    progress = false;
    for (Place& place : machine.at()) {
      const int size = static_cast<int>(schedule.program[place.worker].size());
      while (place.index < size && machine.Step(place)) progress = true;
    }
  }
  std::string waits;
  Place first;
  for (const Place& place : machine.at()) {
    const auto& program = schedule.program[place.worker];
    if (place.index == static_cast<int>(program.size())) continue;
    if (waits.empty()) first = place;
    absl::StrAppend(&waits, "  worker ", place.worker, " at ", place.index, " (", ToString(schedule, program[place.index]), ") waits for ",
                    machine.WaitsFor(place), "\n");
  }
  if (waits.empty()) return OkStatus();
  return InvalidArgument("schedule ", schedule.name, ", worker ", first.worker, ", instruction ", first.index, " (",
                         ToString(schedule, schedule.program[first.worker][first.index]), "): deadlock with ", credits,
                         " credit(s) per channel", matching == Matching::kByPair ? " and one queue per ordered pair of workers" : "", "\n",
                         waits, ProgramText(schedule, machine.at()));
}

}  // namespace lycia::schedule
