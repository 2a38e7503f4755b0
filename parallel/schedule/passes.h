// What a generator's compute instructions need to run: loads, messages, gradient synchronisation, memory slots, streams.
//
// Every pass is a pure function from schedule to schedule; Complete runs them all. A pass expects a schedule that passes
// Verify(.., {.completed = false}) and does not check it again: Verify proves the result.
//
//   1f1b, worker 1 of 2, one micro-batch:   F0 B0   becomes   LOAD0 RECVF0 F0 B0 SENDB0 SYNC{1} UPDATE
#ifndef LYCIA_PARALLEL_SCHEDULE_PASSES_H_
#define LYCIA_PARALLEL_SCHEDULE_PASSES_H_

#include <vector>

#include "parallel/schedule/schedule.h"

namespace lycia::schedule {

// One kLoad right before each forward of the first stage (tokens) and of the last (labels); one only where they are the same stage.
Schedule InsertLoads(Schedule schedule);

// For every boundary that a micro-batch crosses, a send right after the compute instruction that makes the message and a receive right
// before the one that needs it, also where both are on one worker. For an ordered pair of workers the order of the receives equals the
// order of the sends (NCCL offers one queue per pair): where a message would be needed before one that was sent earlier, the earlier
// one is received together with it.
Schedule InsertCommunication(Schedule schedule);

enum class GradientSyncMode {
  kLazy,  // after all compute of the worker
};

// Fills Schedule::sync_sets with {0}, ..., {D-1}, then `tied` (a tied embedding: {{0, D-1}}; a set of one stage adds nothing), which
// is the one global order. Every worker joins exactly the sets with a stage that it holds in any pipe, micro-batches or not, and ends
// with kUpdate. A schedule without backwards is returned unchanged.
Schedule InsertGradientSync(Schedule schedule, GradientSyncMode mode, const std::vector<SyncSet>& tied = {});

// Memory plan of activations: a forward takes the smallest free slot of its (pipe, stage), which its backward frees (the weight
// gradient, where the backward is split; the forward itself, where there is no backward). Sets Instruction::stash_slot of compute
// instructions and loads, and Schedule::stash_slots to the number of slots, which is the peak.
Schedule AssignSlots(Schedule schedule);

// Compute, loads and update on stream 0, messages on 1, gradient synchronisation on 2.
Schedule AssignStreams(Schedule schedule);

struct CompleteOptions {
  GradientSyncMode sync = GradientSyncMode::kLazy;
  std::vector<SyncSet> tied;
};

// All of the above, in that order.
Schedule Complete(Schedule schedule, const CompleteOptions& options = {});

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_PASSES_H_
