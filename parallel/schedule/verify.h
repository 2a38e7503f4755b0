// Proof that a schedule is right before anything runs. Where it is not, the message names worker, index and instruction, and shows the
// programs with the place marked.
#ifndef LYCIA_PARALLEL_SCHEDULE_VERIFY_H_
#define LYCIA_PARALLEL_SCHEDULE_VERIFY_H_

#include <vector>

#include "parallel/schedule/schedule.h"
#include "runtime/core/status.h"

namespace lycia::schedule {

struct VerifyOptions {
  bool completed = true;                      // by Complete(): loads, messages, slots (and sync and update) are there; false: compute only
  bool training = true;                       // every forward has its backward; false: no backward at all (ForwardOnly)
  int credits = 1;                            // receives that a channel posts ahead
  int max_activations = 0;                    // budget per worker, in stashed (stage, micro-batch) pairs; 0 = none
  double max_stage_activations = 0;           // the same in whole stages of D, of which a pair is 1/chunks; 0 = none
  std::vector<std::vector<int>> quotas = {};  // [pipe][stage] most pairs kept there; empty = none
};

// Compute: every micro-batch has on every stage of its pipe exactly one F and one B or one I and one W (parts add up, all stages cut
// alike), on the stage's worker; every part of F with the samples of a part of B or I before it, I before W; paired instructions are
// compute and adjacent; no cycle through the dependencies between workers.
// Completed: one load precedes the outer stages' forwards; every message is sent once after its maker and received once before its user;
// both ends of an ordered pair of workers see one order; the programs run to their end with `credits` per channel, also with one queue
// per ordered pair of workers; stash slots exist and are never shared; every worker joins exactly its sync sets, after its last gradient
// of them, and no rendezvous deadlocks; no set has an update, or every set exactly one, after its sync and after all compute of its
// stages; one plain update at the end.
Status Verify(const Schedule& schedule, const VerifyOptions& options = {});

// The parts of Verify, in the order that it calls them; each expects the ones before to have passed.
Status VerifyShape(const Schedule& schedule);                                 // verify.cc
Status VerifyCompute(const Schedule& schedule, bool training);                // verify_compute.cc
Status VerifyMemory(const Schedule& schedule, const VerifyOptions& options);  // verify_memory.cc
Status VerifyLoads(const Schedule& schedule);                                 // verify_memory.cc
Status VerifySync(const Schedule& schedule, bool training);                   // verify_sync.cc
Status VerifyMessages(const Schedule& schedule);                              // verify_messages.cc
// How messages find their receiver: by channel (threads, MPI), or in one queue per ordered pair of workers (NCCL).
enum class Matching { kByChannel, kByPair };
Status Replay(const Schedule& schedule, int credits, Matching matching);  // replay.cc

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_VERIFY_H_
