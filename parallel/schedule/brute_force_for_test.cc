#include "parallel/schedule/brute_force_for_test.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace lycia::schedule {
namespace {

constexpr int kSamples = 60;  // of a micro-batch: 1 to 6 parts are whole numbers of them

bool Computes(Op op) { return op == Op::kForward || op == Op::kBackward || op == Op::kBackwardInput || op == Op::kBackwardWeight; }
class Judge {
 public:
  Judge(const Schedule& schedule, int credits)
      : s_(schedule), top_(schedule.shape.stages - 1), credits_(std::max(credits, schedule.credits)) {}

  std::string Verdict() {
    for (const auto rule : {&Judge::Homes, &Judge::Samples, &Judge::Cuts, &Judge::Pairs, &Judge::Slots, &Judge::Loads, &Judge::Letters,
                            &Judge::Joins, &Judge::Updates}) {
      if (std::string wrong = (this->*rule)(); !wrong.empty()) return wrong;
    }
    if (!Plays(s_, credits_, false)) return "stuck, by channel";
    return Plays(s_, credits_, true) ? "" : "stuck, by pair";
  }

 private:
  int Workers() const { return s_.shape.workers; }
  int PipeOf(int micro_batch) const { return s_.pipe_of_micro_batch[micro_batch]; }

  std::string Homes() {
    for (int w = 0; w < Workers(); ++w) {
      for (const Instruction& i : s_.program[w]) {
        if (i.op == Op::kGradientSync || i.op == Op::kUpdate) continue;
        if (i.stage < 0 || i.stage > top_ || i.micro_batch < 0 || i.micro_batch >= s_.shape.micro_batches) return "no such cell";
        if (i.parts < 1 || i.parts > 6 || i.part >= i.parts) return "no such part";
        if (i.pipe != PipeOf(i.micro_batch) || s_.worker_of[i.pipe][i.stage] != w) return "not at home";
      }
    }
    return "";
  }

  // Every sample goes through every stage once, forwards before backwards, input gradient before weight gradient.
  std::string Samples() {
    for (int m = 0; m < s_.shape.micro_batches; ++m) {
      for (int stage = 0; stage <= top_; ++stage) {
        std::array<std::string, kSamples> history;
        for (const Instruction& i : s_.program[s_.worker_of[PipeOf(m)][stage]]) {
          if (!Computes(i.op) || i.stage != stage || i.micro_batch != m) continue;
          const int share = kSamples / i.parts;
          for (int sample = i.part * share; sample < (i.part + 1) * share; ++sample) history[sample] += "FBIW"[static_cast<int>(i.op)];
        }
        for (const std::string& each : history) {
          if (each != "FB" && each != "FIW") return "a sample goes " + each;
        }
      }
    }
    return "";
  }

  // All stages cut a micro-batch alike.
  std::string Cuts() {
    std::map<std::pair<bool, int>, int> parts;
    for (const auto& program : s_.program) {
      for (const Instruction& i : program) {
        if (!Computes(i.op)) continue;
        if (parts.emplace(std::pair(i.op == Op::kForward, i.micro_batch), i.parts).first->second != i.parts) return "cut differently";
      }
    }
    return "";
  }

  std::string Pairs() {
    for (const auto& program : s_.program) {
      for (std::size_t k = 0; k < program.size(); ++k) {
        if (!program[k].paired_with_next) continue;
        if (!Computes(program[k].op) || k + 1 == program.size() || !Computes(program[k + 1].op)) return "a pair of what is none";
      }
    }
    return "";
  }

  // [first, behind last] of the paired block around k.
  static std::pair<int, int> Block(const std::vector<Instruction>& program, int k) {
    int begin = k, end = k + 1;
    while (begin > 0 && program[begin - 1].paired_with_next) --begin;
    while (program[end - 1].paired_with_next) ++end;
    return {begin, end};
  }

  // A micro-batch is in one slot from the block of its first to that of its last compute that uses this kind of slot; two in one slot never
  // overlap. Input slots are not for weight gradients, handoff slots are for the two halves of a split backward.
  std::string Slots() {
    std::string wrong =
        SlotsOf(&Instruction::stash_slot, s_.stash_slots, {Op::kForward, Op::kBackward, Op::kBackwardInput, Op::kBackwardWeight});
    if (wrong.empty()) wrong = SlotsOf(&Instruction::input_slot, s_.input_slots, {Op::kForward, Op::kBackward, Op::kBackwardInput});
    if (wrong.empty()) wrong = SlotsOf(&Instruction::handoff_slot, s_.handoff_slots, {Op::kBackwardInput, Op::kBackwardWeight});
    return wrong;
  }

  std::string SlotsOf(int Instruction::*slot, const std::vector<std::vector<int>>& count, const std::set<Op>& users) {
    for (const auto& program : s_.program) {
      std::map<std::tuple<int, int, int>, std::array<int, 3>> lives;  // (pipe, stage, micro-batch) -> begin, end, slot
      for (int k = 0; k < static_cast<int>(program.size()); ++k) {
        const Instruction& i = program[k];
        if (users.count(i.op) == 0) continue;
        if (i.*slot < 0 || i.*slot >= count[i.pipe][i.stage]) return "no such slot";
        const auto [begin, end] = Block(program, k);
        auto& life = lives.emplace(std::tuple(i.pipe, i.stage, i.micro_batch), std::array{begin, end, i.*slot}).first->second;
        if (life[2] != i.*slot) return "a micro-batch in two slots";
        life[1] = end;
      }
      for (auto a = lives.begin(); a != lives.end(); ++a) {
        for (auto b = std::next(a); b != lives.end() && std::get<1>(b->first) == std::get<1>(a->first); ++b) {
          if (std::get<0>(b->first) != std::get<0>(a->first) || a->second[2] != b->second[2]) continue;
          if (a->second[0] < b->second[1] && b->second[0] < a->second[1]) return "two micro-batches in a slot";
        }
      }
    }
    return "";
  }

  // Between a load and the block of its first forward there is no other compute.
  std::string Loads() {
    for (const auto& program : s_.program) {
      std::map<std::pair<int, int>, int> first, loads;  // (stage, micro-batch) -> index
      for (int k = 0; k < static_cast<int>(program.size()); ++k) {
        const Instruction& i = program[k];
        const std::pair cell(i.stage, i.micro_batch);
        if (Computes(i.op) && (i.stage == 0 || i.stage == top_)) first.emplace(cell, k);
        if (i.op == Op::kLoad && (i.parts != 1 || !loads.emplace(cell, k).second)) return "loaded twice or in parts";
      }
      if (first.size() != loads.size()) return "a load too many or too few";
      for (const auto& [cell, k] : first) {
        if (loads.count(cell) == 0 || loads[cell] > k || program[loads[cell]].stash_slot != program[k].stash_slot ||
            program[loads[cell]].input_slot != program[k].input_slot) {
          return "not loaded";
        }
        for (int between = loads[cell]; between < Block(program, k).first; ++between) {
          if (Computes(program[between].op)) return "loaded too early";
        }
      }
    }
    return "";
  }

  // Each letter is made, sent, received and used once, in this order on each side; what is sent from one worker to another is received
  // in the same order.
  std::string Letters() {
    std::map<std::pair<int, int>, std::pair<std::vector<Letter>, std::vector<Letter>>> posts;  // (from, to) -> sent, received
    std::size_t made_count = 0, sent_count = 0;
    for (int w = 0; w < Workers(); ++w) {
      std::set<Letter> made, sent, received;
      for (const Instruction& i : s_.program[w]) {
        const bool backward = i.op == Op::kBackward || i.op == Op::kBackwardInput;
        if (i.op == Op::kForward && i.stage > 0 && received.erase(LetterOf(i, false, i.stage - 1)) == 0) return "used before received";
        if (backward && i.stage < top_ && received.erase(LetterOf(i, true, i.stage)) == 0) return "used before received";
        if (i.op == Op::kForward && i.stage < top_) made.insert(LetterOf(i, false, i.stage));
        if (backward && i.stage > 0) made.insert(LetterOf(i, true, i.stage - 1));
        if (!Sends(i.op) && !Receives(i.op)) continue;
        const Letter letter = Carried(i);
        const auto [gradient, lower, m, part, parts] = letter;
        if (lower < 0 || lower >= top_) return "over the edge";
        const int below = s_.worker_of[i.pipe][lower], above = s_.worker_of[i.pipe][lower + 1];
        auto& [out, in] = posts[gradient ? std::pair(above, below) : std::pair(below, above)];
        if (Sends(i.op) && (made.count(letter) == 0 || !sent.insert(letter).second)) return "sent before made, or twice";
        if (Receives(i.op) && !received.insert(letter).second) return "received twice";
        (Sends(i.op) ? out : in).push_back(letter);
      }
      if (!received.empty()) return "received and not used";
      made_count += made.size(), sent_count += sent.size();
    }
    if (made_count != sent_count) return "made and not sent";
    for (const auto& [pair, post] : posts) {
      if (post.first != post.second) return "received in another order";
    }
    return "";
  }

  bool Holds(int worker, int set) const {
    for (const auto& worker_of : s_.worker_of) {
      for (const int stage : s_.sync_sets[set].stages) {
        if (worker_of[stage] == worker) return true;
      }
    }
    return false;
  }

  bool InSet(int stage, int set) const {
    const auto& stages = s_.sync_sets[set].stages;
    return std::find(stages.begin(), stages.end(), stage) != stages.end();
  }

  // Indices of the instructions of one kind and set in a program; set -1: the plain update.
  static std::vector<int> Find(const std::vector<Instruction>& program, Op op, int set) {
    std::vector<int> found;
    for (int k = 0; k < static_cast<int>(program.size()); ++k) {
      if (program[k].op == op && program[k].sync_set == set) found.push_back(k);
    }
    return found;
  }

  std::string Joins() {
    for (int w = 0; w < Workers(); ++w) {
      const auto& program = s_.program[w];
      std::size_t known = 0;
      for (int set = 0; set < static_cast<int>(s_.sync_sets.size()); ++set) {
        const auto joins = Find(program, Op::kGradientSync, set);
        if (joins.size() != (Holds(w, set) ? 1 : 0)) return "joins not once what it holds";
        known += joins.size();
        for (int k = joins.empty() ? static_cast<int>(program.size()) : joins[0]; k < static_cast<int>(program.size()); ++k) {
          if (Computes(program[k].op) && program[k].op != Op::kForward && InSet(program[k].stage, set)) return "a gradient behind its sum";
        }
      }
      const auto is_sync = [](const Instruction& i) { return i.op == Op::kGradientSync; };
      if (known != static_cast<std::size_t>(std::count_if(program.begin(), program.end(), is_sync))) return "a sync of no set";
    }
    return "";
  }

  std::string Updates() {
    bool any = false;
    for (const auto& program : s_.program) {
      for (const Instruction& i : program) any = any || (i.op == Op::kUpdate && i.sync_set != -1);
    }
    for (int w = 0; w < Workers(); ++w) {
      const auto& program = s_.program[w];
      const auto last = Find(program, Op::kUpdate, -1);
      if (last.size() != 1 || last[0] + 1 != static_cast<int>(program.size())) return "not one update at the end";
      std::size_t known = 1;
      for (int set = 0; set < static_cast<int>(s_.sync_sets.size()); ++set) {
        const auto updates = Find(program, Op::kUpdate, set);
        if (updates.size() != (any && Holds(w, set) ? 1 : 0)) return "not one update of each set";
        known += updates.size();
        if (updates.empty()) continue;
        if (Find(program, Op::kGradientSync, set)[0] > updates[0]) return "updated before its sum";
        for (int k = updates[0]; k < static_cast<int>(program.size()); ++k) {
          if (Computes(program[k].op) && InSet(program[k].stage, set)) return "computes with new parameters";
        }
      }
      const auto is_update = [](const Instruction& i) { return i.op == Op::kUpdate; };
      if (known != static_cast<std::size_t>(std::count_if(program.begin(), program.end(), is_update))) return "an update of no set";
    }
    return "";
  }

  const Schedule& s_;
  const int top_;  // stage
  const int credits_;
};

}  // namespace

std::string WhatIsWrong(const Schedule& schedule, int credits) { return Judge(schedule, credits).Verdict(); }

}  // namespace lycia::schedule
