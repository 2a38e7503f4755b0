// Edits of schedules for tests that break them. Instructions are found by their text; a worker's text must be unique.
#ifndef LYCIA_PARALLEL_SCHEDULE_EDIT_FOR_TEST_H_
#define LYCIA_PARALLEL_SCHEDULE_EDIT_FOR_TEST_H_

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

inline Schedule Must(std::string_view name, int workers, int micro_batches, int pipes = 0) {
  StatusOr<Schedule> schedule = Generate(name, {.workers = workers, .micro_batches = micro_batches, .pipes = pipes});
  EXPECT_TRUE(schedule.ok()) << schedule.status();
  return *std::move(schedule);
}

// Index of an instruction by its text.
inline int Find(const Schedule& schedule, int worker, std::string_view text) {
  const auto& program = schedule.program[worker];
  for (std::size_t i = 0; i < program.size(); ++i) {
    if (ToString(schedule, program[i]) == text) return static_cast<int>(i);
  }
  ADD_FAILURE() << "no " << text << " on worker " << worker;
  return 0;
}

inline Instruction& At(Schedule& schedule, int worker, std::string_view text) {
  return schedule.program[worker][Find(schedule, worker, text)];
}

inline void Drop(Schedule& schedule, int worker, std::string_view text) {
  schedule.program[worker].erase(schedule.program[worker].begin() + Find(schedule, worker, text));
}

inline void Duplicate(Schedule& schedule, int worker, std::string_view text) {
  const int i = Find(schedule, worker, text);
  const Instruction copy = schedule.program[worker][i];
  schedule.program[worker].insert(schedule.program[worker].begin() + i + 1, copy);
}

// Takes an instruction out and puts it back right before another one.
inline void Move(Schedule& schedule, int worker, std::string_view text, std::string_view before) {
  const Instruction moved = At(schedule, worker, text);
  Drop(schedule, worker, text);
  schedule.program[worker].insert(schedule.program[worker].begin() + Find(schedule, worker, before), moved);
}

inline void Swap(Schedule& schedule, int worker, std::string_view a, std::string_view b) {
  std::swap(At(schedule, worker, a), At(schedule, worker, b));
}

// Every forward in `forwards` parts and every backward in `backwards`, one after the other.
inline Schedule Cut(Schedule schedule, int forwards, int backwards) {
  for (auto& program : schedule.program) {
    std::vector<Instruction> cut;
    for (Instruction instruction : program) {
      const int parts = instruction.op == Op::kForward ? forwards : backwards;
      const bool paired = instruction.paired_with_next;
      instruction.parts = static_cast<std::uint8_t>(parts);
      for (int part = 0; part < parts; ++part) {
        instruction.part = static_cast<std::uint8_t>(part);
        instruction.paired_with_next = paired && part == parts - 1;
        cut.push_back(instruction);
      }
    }
    program = std::move(cut);
  }
  return schedule;
}

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_EDIT_FOR_TEST_H_
