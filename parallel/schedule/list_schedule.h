// Event-driven list scheduling: an order for any placement, found by running it. Whenever a worker is idle it starts, among the forwards
// and backwards that have arrived and that are allowed, the one with the smallest key; where there is none and backwards are split, the
// oldest weight gradient. The m-th micro-batch of its pipe has on stage s of S
//   key(F) = 2m + s,   key(B) = key(I) = 2m + 2S - 1 - s          (Chimera's slot number; ties: backward first, then the smaller stage)
//
// A forward is allowed while its (pipe, stage) keeps fewer activations than its quota; one is kept from F until B, or until W where
// backwards are split. Quotas are static, one for each (pipe, stage), and at least 1: then the oldest micro-batch of a pipe can always go
// on, so no costs or latencies deadlock. A cap shared by the directions may: each worker full of the other direction's forwards.
//
// With `credits` C, what makes the m-th message of a channel is allowed once what uses its (m - C)-th has started. So every wait for a
// free buffer of a channel with C of them is for something that started earlier here, and the order runs to its end with blocking sends
// and C buffers, by channel and with one queue per ordered pair of workers. It also stops a worker from running ahead of what its
// neighbour can take, which is why such orders are often the faster ones.
#ifndef LYCIA_PARALLEL_SCHEDULE_LIST_SCHEDULE_H_
#define LYCIA_PARALLEL_SCHEDULE_LIST_SCHEDULE_H_

#include <optional>
#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

enum class KeyRule {
  kSlot,           // as above
  kBackwardFirst,  // any backward before any forward, by slot among themselves
  kCost,           // the slot number in time: a stage counts what it and its message cost, a micro-batch what it costs its busiest worker
};

using Quotas = std::vector<std::vector<int>>;  // [pipe][stage]

struct ListOptions {
  bool split = false;  // I and W instead of B
  Quotas quotas;       // at least forward_group
  int worker_cap = 0;  // most activations, of a stage each, that a worker keeps over all its quotas; 0 = no such cap
  int credits = 0;     // 0 = messages wait in unlimited buffers
  TickCosts costs;     // what it is planned for, messages included
  KeyRule key = KeyRule::kSlot;
  int patience = 0;       // a weight gradient starts only if nothing is known to arrive within so many quarters of its time
  int forward_group = 1;  // so many forwards of a (pipe, stage) follow each other (forward doubling: 2); at most credits, if those count
};

// `empty` has its shape, placement and micro-batches; the result has the programs, compute only. O(instructions * stages of a worker).
// Nothing if it deadlocks, which only worker_cap can make it do.
std::optional<Schedule> ListSchedule(Schedule empty, const ListOptions& options);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_LIST_SCHEDULE_H_
