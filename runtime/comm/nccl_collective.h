// One collective as NCCL calls, in steps: after each step NCCL must have launched it before the next one is made.
#ifndef LYCIA_RUNTIME_COMM_NCCL_COLLECTIVE_H_
#define LYCIA_RUNTIME_COMM_NCCL_COLLECTIVE_H_

#include <cstdint>
#include <string>

#include "runtime/comm/collective_call.h"
#include "runtime/comm/nccl_lane.h"
#include "runtime/comm/nccl_world.h"

namespace lycia::nccl {

// Where parts of a sum wait to be added: memory of the device.
struct Scratch {
  char* memory = nullptr;
  std::int64_t bytes = 0;
};
// Of one communicator: a segment for each rank.
std::int64_t ScratchBytes(int size);

// Steps that the call takes: the same on all ranks.
std::int64_t StepsOf(const CollectiveCall& call, int size, Sums sums, const Scratch& scratch);
// Makes the calls of step `step` on the lane's stream; once NCCL has launched them, FinishStep enqueues what follows them there.
Status IssueStep(const CollectiveCall& call, std::int64_t step, Lane& lane, Sums sums, const Scratch& scratch);

Status FinishStep(const CollectiveCall& call, std::int64_t step, Lane& lane, Sums sums, const Scratch& scratch);

std::string Describe(const CollectiveCall& call);  // "all-reduce of 4096 f32"

}  // namespace lycia::nccl

#endif  // LYCIA_RUNTIME_COMM_NCCL_COLLECTIVE_H_
