// The messages of a schedule, played move by move.
#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "parallel/schedule/brute_force_for_test.h"

namespace lycia::schedule {

bool Sends(Op op) { return op == Op::kSendActivation || op == Op::kSendGradient; }
bool Receives(Op op) { return op == Op::kReceiveActivation || op == Op::kReceiveGradient; }

Letter LetterOf(const Instruction& i, bool gradient, int lower_stage) { return {gradient, lower_stage, i.micro_batch, i.part, i.parts}; }

Letter Carried(const Instruction& i) {
  const bool gradient = i.op == Op::kSendGradient || i.op == Op::kReceiveGradient;
  const bool from_below = i.op == Op::kReceiveActivation || i.op == Op::kSendGradient;
  return LetterOf(i, gradient, from_below ? i.stage - 1 : i.stage);
}

bool Plays(const Schedule& schedule, int credits, bool by_pair) {
  const int top = schedule.shape.stages - 1;
  const int workers = schedule.shape.workers;
  const auto channel_of = [&](const Letter& letter) {
    const auto [gradient, stage, m, part, parts] = letter;
    return (schedule.pipe_of_micro_batch[m] * schedule.shape.stages + stage) * 2 + gradient;
  };
  const auto holds = [&](int worker, int set) {
    const std::vector<int> members = WorkersOfSyncSet(schedule, schedule.sync_sets[set]);
    return std::find(members.begin(), members.end(), worker) != members.end();
  };
  std::vector<std::size_t> at(workers, 0);
  std::map<int, int> buffers;                               // channel -> in use
  std::map<std::pair<int, int>, std::vector<Letter>> line;  // (from, to) -> receives not in place yet
  std::set<Letter> in_place, arrived;
  std::vector<std::vector<int>> queue(workers);  // sums that each worker waits for
  std::vector<std::set<int>> summed(workers);
  const auto ends = [&](const Letter& letter) {
    const auto [gradient, lower, m, part, parts] = letter;
    const int below = schedule.worker_of[schedule.pipe_of_micro_batch[m]][lower],
              above = schedule.worker_of[schedule.pipe_of_micro_batch[m]][lower + 1];
    return gradient ? std::pair(above, below) : std::pair(below, above);
  };
  for (const auto& program : schedule.program) {
    for (const Instruction& i : program) {
      if (Receives(i.op)) line[ends(Carried(i))].push_back(Carried(i));
    }
  }
  const auto try_move = [&](int w) {
    const Instruction& i = schedule.program[w][at[w]];
    if (Sends(i.op)) {
      const Letter letter = Carried(i);
      auto& waiting = line[ends(letter)];
      while (by_pair && !waiting.empty() && buffers[channel_of(waiting.front())] < credits) {
        ++buffers[channel_of(waiting.front())];
        in_place.insert(waiting.front());
        waiting.erase(waiting.begin());
      }
      if (by_pair ? in_place.count(letter) == 0 : buffers[channel_of(letter)] >= credits) return false;
      if (!by_pair) ++buffers[channel_of(letter)];
      arrived.insert(letter);
    }
    if (Receives(i.op) && arrived.erase(Carried(i)) == 0) return false;
    if (i.op == Op::kForward && i.stage > 0) --buffers[channel_of(LetterOf(i, false, i.stage - 1))];
    if ((i.op == Op::kBackward || i.op == Op::kBackwardInput) && i.stage < top) --buffers[channel_of(LetterOf(i, true, i.stage))];
    if (i.op == Op::kGradientSync) queue[w].push_back(i.sync_set);
    if (i.op == Op::kUpdate && (i.sync_set < 0 ? !queue[w].empty() : summed[w].count(i.sync_set) == 0)) return false;
    ++at[w];
    return true;
  };
  const auto try_sum = [&](int set) {
    for (int w = 0; w < workers; ++w) {
      if (holds(w, set) && (queue[w].empty() || queue[w][0] != set)) return false;
    }
    for (int w = 0; w < workers; ++w) {
      if (holds(w, set)) queue[w].erase(queue[w].begin()), summed[w].insert(set);
    }
    return true;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (int w = 0; w < workers; ++w) {
      while (at[w] < schedule.program[w].size() && try_move(w)) moved = true;
    }
    for (int set = 0; set < static_cast<int>(schedule.sync_sets.size()); ++set) moved = try_sum(set) || moved;
  }
  for (int w = 0; w < workers; ++w) {
    if (at[w] < schedule.program[w].size()) return false;
  }
  return true;
}

}  // namespace lycia::schedule
