// Edits of schedules for tests that break them. Instructions are found by their text; a worker's text must be unique.
#ifndef LYCIA_PARALLEL_SCHEDULE_EDIT_FOR_TEST_H_
#define LYCIA_PARALLEL_SCHEDULE_EDIT_FOR_TEST_H_

#include <string_view>
#include <utility>

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

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_EDIT_FOR_TEST_H_
