// What a generator's compute instructions need to run: loads, messages, gradient synchronisation, memory slots, streams.
//
// Every pass is a pure function from schedule to schedule; Complete runs them all. A pass expects a schedule that passes
// Verify(.., {.completed = false}) and does not check it again: Verify proves the result.
//
//   1f1b, worker 1 of 2, one micro-batch:   F0 B0   becomes   LOAD0 RECVF0 F0 B0 SENDB0 SYNC{1} UPDATE
#ifndef LYCIA_PARALLEL_SCHEDULE_PASSES_H_
#define LYCIA_PARALLEL_SCHEDULE_PASSES_H_

#include <vector>

#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

// One kLoad of the whole micro-batch right before the first part of each forward of the first stage (tokens) and of the last (labels);
// one only where they are the same stage. Before the whole block where the forward is paired.
Schedule InsertLoads(Schedule schedule);

// For every boundary that a micro-batch crosses, a send right after the compute instruction that makes the message and a receive right
// before the one that needs it, part by part, also where both are on one worker. For an ordered pair of workers the order of the receives
// equals the order of the sends (NCCL offers one queue per pair): where a message would be needed before one that was sent earlier, the
// earlier one is received together with it.
Schedule InsertCommunication(Schedule schedule);

enum class GradientSyncMode {
  kLazy,      // after all compute of the worker
  kEager,     // right after the worker's last gradient of the set's stages, over all pipes
  kEagerOpt,  // the same, but only where a bubble follows before the end of the worker's compute; else after all compute
};

// Fills Schedule::sync_sets with {0}, ..., {D-1}, then `tied` (a tied embedding: {{0, D-1}}; a set of one stage adds nothing). Every
// worker joins exactly the sets with a stage that it holds in any pipe, micro-batches or not, and ends with kUpdate. When gradients are
// ready and where bubbles are is decided by simulation with `costs`. All workers join the sets in one global order, so that the
// rendezvous cannot deadlock: of sync_sets for kLazy, otherwise by the time at which the last member joins, which may move a join behind
// another one of the same worker, but delays no reduction. A schedule without backwards is returned unchanged.
//
//   chimera, N = D: worker h < D/2 launches its upper stage D-1-h eagerly iff h < D/2 - 1, and stage h at its end (kEagerOpt).
Schedule InsertGradientSync(Schedule schedule, GradientSyncMode mode, const std::vector<SyncSet>& tied = {}, const TickCosts& costs = {});

enum class UpdateMode {
  kDecided,  // one kUpdate at the end, when everything is known: clipping by the global norm
  kEager,    // each set's parameters as soon as their gradient is there: UPDATE{s}, and the plain one at the end
};

// UPDATE{s} for every set that a worker joins, in the order of its joins: in the first bubble in which, by simulation with `costs`, the
// sum is complete and the update ends before the next instruction would start anyway; else after all compute. So no compute starts later.
// Expects InsertGradientSync's result.
Schedule InsertSetUpdates(Schedule schedule, const TickCosts& costs = {});

// Memory plan of activations: each kind of slot (slots.h) is taken, the smallest free one of its (pipe, stage), at the first instruction
// that uses it and freed after the last (the forward itself, where there is no backward). Sets the slots of compute instructions and
// loads, and the tables of Schedule to the number of slots, which is the peak.
Schedule AssignSlots(Schedule schedule);

// Compute, loads and update on stream 0, messages on 1, gradient synchronisation on 2.
Schedule AssignStreams(Schedule schedule);

struct CompleteOptions {
  GradientSyncMode sync = GradientSyncMode::kLazy;
  UpdateMode update = UpdateMode::kDecided;
  TickCosts costs = {};  // by which eager syncs and updates are placed
  std::vector<SyncSet> tied = {};
};

// All of the above, in that order.
Schedule Complete(Schedule schedule, const CompleteOptions& options = {});

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_PASSES_H_
