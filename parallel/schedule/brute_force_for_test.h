// Whether a completed training schedule is right, decided without Verify's code: sample by sample, by plain search and by playing the
// messages move by move. Slow, and made to be read: the tests hold Verify against it.
#ifndef LYCIA_PARALLEL_SCHEDULE_BRUTE_FORCE_FOR_TEST_H_
#define LYCIA_PARALLEL_SCHEDULE_BRUTE_FORCE_FOR_TEST_H_

#include <string>
#include <tuple>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

// The first rule found broken, or "". Instructions may have 1 to 6 parts; the shape, the placement and the sync sets are taken as given.
std::string WhatIsWrong(const Schedule& schedule, int credits = 1);

// (gradient, lower stage, micro-batch, part, parts) of what an instruction sends, receives, needs or makes.
using Letter = std::tuple<bool, int, int, int, int>;
bool Sends(Op op);
bool Receives(Op op);
Letter LetterOf(const Instruction& instruction, bool gradient, int lower_stage);
Letter Carried(const Instruction& transfer);

// Moves whoever can move until nobody can; true if all programs end. A letter takes a buffer of its channel from its send, or where
// letters of a pair of workers queue up, from when its receive is next in line, until it has been used. brute_force_play_for_test.cc
bool Plays(const Schedule& schedule, int credits, bool by_pair);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_BRUTE_FORCE_FOR_TEST_H_
