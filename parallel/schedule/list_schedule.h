// Event-driven list scheduling: an order for any placement, found by running it. Whenever a worker is idle it starts, among the forwards
// and backwards that have arrived and that its quota allows, the one with the smallest key; where there is none and backwards are
// split, the oldest weight gradient. The m-th micro-batch of its pipe has on stage s of S
//   key(F) = 2m + s,   key(B) = key(I) = 2m + 2S - 1 - s          (Chimera's slot number; ties: backward first, then the smaller stage)
//
// A forward is allowed while its (pipe, stage) keeps fewer activations than its quota; one is kept from F until B, or until W where
// backwards are split. Quotas are static, one for each (pipe, stage), and at least 1: then the oldest micro-batch of a pipe can always go
// on, so no costs or latencies deadlock. One cap shared by the directions would: each worker full of the other direction's forwards.
#ifndef LYCIA_PARALLEL_SCHEDULE_LIST_SCHEDULE_H_
#define LYCIA_PARALLEL_SCHEDULE_LIST_SCHEDULE_H_

#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

enum class KeyRule {
  kSlot,           // as above
  kBackwardFirst,  // any backward before any forward, by slot among themselves
  kCost,           // the slot number in time: stages weigh what they cost, and a micro-batch what it occupies its busiest worker
};

struct ListOptions {
  bool split = false;                    // I and W instead of B
  std::vector<std::vector<int>> quotas;  // [pipe][stage] >= 1 (>= forward_group)
  TickCosts costs;                       // what it is planned for, messages included
  KeyRule key = KeyRule::kSlot;
  // A weight gradient starts only if nothing is known to arrive within this many quarters of its time (0 to 4).
  int patience = 0;
  int forward_group = 1;  // so many forwards of a (pipe, stage) follow each other (forward doubling: 2)
};

// `empty` has its shape, placement and micro-batches; the result has the programs, compute only. O(instructions * stages of a worker).
Schedule ListSchedule(Schedule empty, const ListOptions& options);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_LIST_SCHEDULE_H_
