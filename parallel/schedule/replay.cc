// Verify: runs the programs under the strictest message system that a schedule must live with; see verify.h.
//
// Each channel has `credits` buffers at its receiver; a receive is posted when a buffer is free, and a buffer is free again when the
// instruction that used the message is done. A send waits until its message's receive is posted, and meanwhile its worker does nothing
// else. By channel, receives of different channels are posted independently; by pair, those of one ordered pair of workers are posted
// in the order of the receiver's program, which also keeps a message from overtaking the one before. Gradient synchronisation is
// asynchronous: a worker's sets form a queue, and a set is done when it is at the head of every member's queue; a set's update waits
// until the set is done, the plain one until the queue is empty. Waiting only ever ends by progress elsewhere, so the outcome does not
// depend on the order of the replay.
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

// First in, first out, without giving memory back.
struct Queue {
  std::vector<int> items;
  std::size_t head = 0;
  bool empty() const { return head == items.size(); }
  int front() const { return items[head]; }
};

class Machine {
 public:
  Machine(const Schedule& schedule, int credits, Matching matching)
      : schedule_(schedule),
        matching_(matching),
        pairs_(PairWorkers(schedule)),
        free_(NumChannels(schedule.shape), credits),
        arrived_(NumChannels(schedule.shape), 0),
        posted_(NumChannels(schedule.shape), 0),
        unposted_(pairs_.count),
        syncs_(schedule.shape.workers),
        blocked_(schedule.shape.workers, false),
        heads_(schedule.sync_sets.size(), 0) {
    for (const SyncSet& set : schedule.sync_sets) members_.push_back(WorkersOfSyncSet(schedule, set));
    for (int worker = schedule.shape.workers; worker-- > 0;) runnable_.push_back(worker);
    for (int worker = 0; worker < schedule.shape.workers; ++worker) {
      at_.push_back({worker, 0});
      for (const Instruction& instruction : schedule.program[worker]) {
        if (!IsReceive(instruction.op)) continue;
        const int channel = Channel(MessageOf(instruction));
        unposted_[pairs_.of_channel[channel]].items.push_back(channel);
      }
    }
  }

  void Run() {
    while (!runnable_.empty()) {
      const int worker = runnable_.back();
      runnable_.pop_back();
      const int size = static_cast<int>(schedule_.program[worker].size());
      while (at_[worker].index < size && Step(at_[worker])) {
      }
      blocked_[worker] = at_[worker].index < size;
    }
  }

  const std::vector<Place>& at() const { return at_; }

  std::string WaitsFor(const Place& place) const {
    const Instruction& instruction = schedule_.program[place.worker][place.index];
    if (instruction.op == Op::kUpdate) {
      const int set = instruction.sync_set >= 0 ? instruction.sync_set : syncs_[place.worker].front();
      return absl::StrCat("gradient synchronisation of set ", set);
    }
    const Message message = MessageOf(instruction);
    const int peer = IsSend(instruction.op) ? ReceiverOf(schedule_, message) : SenderOf(schedule_, message);
    return absl::StrCat("worker ", peer, IsSend(instruction.op) ? " to take the " : " to send the ", ToString(message));
  }

 private:
  int Channel(const Message& message) const { return ChannelIndex(schedule_.shape, message); }

  void Wake(int worker) {
    if (!blocked_[worker]) return;
    blocked_[worker] = false;
    runnable_.push_back(worker);
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
    if (instruction.op == Op::kUpdate && !MayUpdate(place.worker, instruction.sync_set)) return false;
    if (instruction.op == Op::kGradientSync) Join(place.worker, instruction.sync_set);
    if (const auto used = Consumes(schedule_.shape, instruction)) {
      ++free_[Channel(*used)];
      Wake(SenderOf(schedule_, *used));
    }
    ++place.index;
    return true;
  }

  bool Send(const Message& message) {
    const int channel = Channel(message);
    if (matching_ == Matching::kByPair) {
      Queue& queue = unposted_[pairs_.of_channel[channel]];
      for (; !queue.empty() && free_[queue.front()] > 0; ++queue.head) {
        --free_[queue.front()];
        ++posted_[queue.front()];
      }
      if (posted_[channel] == 0) return false;
      --posted_[channel];
    } else {
      if (free_[channel] == 0) return false;
      --free_[channel];
    }
    ++arrived_[channel];
    Wake(ReceiverOf(schedule_, message));
    return true;
  }

  bool MayUpdate(int worker, int set) const {
    const Queue& queue = syncs_[worker];
    if (set < 0) return queue.empty();
    for (std::size_t i = 0; i < queue.head; ++i) {
      if (queue.items[i] == set) return true;
    }
    return false;
  }

  void Join(int worker, int set) {
    syncs_[worker].items.push_back(set);
    if (syncs_[worker].head + 1 < syncs_[worker].items.size()) return;
    std::vector<int> reached = {set};  // sets that came to the head of one more queue
    while (!reached.empty()) {
      const int next = reached.back();
      reached.pop_back();
      if (++heads_[next] < members_[next].size()) continue;
      for (const int member : members_[next]) {
        Queue& queue = syncs_[member];
        ++queue.head;
        if (!queue.empty()) reached.push_back(queue.front());
        Wake(member);
      }
    }
  }

  const Schedule& schedule_;
  const Matching matching_;
  const WorkerPairs pairs_;
  std::vector<Place> at_;
  std::vector<int> free_;                  // [channel] buffers without a receive posted or a message in them
  std::vector<int> arrived_;               // [channel] messages there, not yet received by an instruction
  std::vector<int> posted_;                // [channel] receives posted and still empty (kByPair)
  std::vector<Queue> unposted_;            // [pair] channels of receives not posted yet, in the order of the receiver's program
  std::vector<Queue> syncs_;               // [worker] sets joined; done before the head
  std::vector<bool> blocked_;              // [worker] and not in runnable_
  std::vector<std::vector<int>> members_;  // [set]
  std::vector<std::size_t> heads_;         // [set] members that have it at the head of their queue
  std::vector<int> runnable_;
};

}  // namespace

Status Replay(const Schedule& schedule, int credits, Matching matching) {
  Machine machine(schedule, credits, matching);
  machine.Run();
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
