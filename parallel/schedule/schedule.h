// A pipeline schedule is data: for every worker an ordered list of instructions.
//
// A generator (generators.h) writes the compute instructions only; passes (passes.h) complete them with loads, messages, gradient
// synchronisation, updates and memory slots; Verify proves the result, Simulate times it, Render draws it, and the executor of
// parallel/pipeline runs it. Nothing here knows of ranks of the world, tensors or devices: a worker is a position on the stage axis,
// and every data replica runs the same schedule.
#ifndef LYCIA_PARALLEL_SCHEDULE_SCHEDULE_H_
#define LYCIA_PARALLEL_SCHEDULE_SCHEDULE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace lycia::schedule {

// How many of everything. D = stages per pipe, N = micro-batches of one data replica in one step, over all pipes.
struct ScheduleShape {
  int workers = 1;        // workers of one replica, along the stage axis of the mesh
  int stages = 1;         // stages of one copy of the model (= workers * chunks)
  int chunks = 1;         // stages per worker and pipe: 1 but for interleaved and V placements
  int pipes = 1;          // copies of the model: 1, 2 (Chimera: 0 = down, 1 = up) or 2f
  int micro_batches = 1;  // numbered 0..N-1 over all pipes

  bool operator==(const ScheduleShape&) const = default;
};

enum class Op : std::uint8_t {
  // Compute; the only ones a generator writes.
  kForward,
  kBackward,  // full: input and weight gradient
  kBackwardInput,
  kBackwardWeight,
  // Added by passes.
  kLoad,               // tokens into the first stage, labels into the last, before its forward
  kSendActivation,     // stage -> stage + 1 of the same pipe and micro-batch; right after the compute that makes it
  kReceiveActivation,  // (pipe, stage) is the receiver; right before the compute that needs it
  kSendGradient,       // stage -> stage - 1
  kReceiveGradient,
  kGradientSync,  // sum of one sync set's gradients over all its holders: a rendezvous
  kUpdate,        // with a sync set: the optimizer's step on it; without: decide (norm, loss, stop), then the step on what is left
};

// Micro-batch of instructions that have none (sync, update).
inline constexpr int kNoMicroBatch = -1;

struct Instruction {
  Op op = Op::kForward;
  int pipe = 0;
  int stage = 0;                    // of 0..D-1
  int micro_batch = kNoMicroBatch;  // of 0..N-1
  std::uint8_t part = 0;            // halving: part of parts, each with 1/parts of the samples; forward and backward may differ in parts
  std::uint8_t parts = 1;
  bool paired_with_next = false;  // DualPipe's F&B block; outputs are released at the block's end

  // Written by passes; -1 = not assigned.
  int sync_set = -1;      // kGradientSync, kUpdate: index into Schedule::sync_sets
  int stash_slot = -1;    // of (pipe, stage) on this worker: what the micro-batch keeps from its forward to its last backward
  int input_slot = -1;    // the same up to its last input gradient (slots.h)
  int handoff_slot = -1;  // from an input gradient to its weight gradient, where the backward is split
  int stream = 0;         // 0 compute, 1 messages, 2 gradient synchronisation

  bool operator==(const Instruction&) const = default;
};

// A set of parameters that is reduced at once: those held by all of `stages` (a tied embedding: {0, D-1}), and by no other stage.
struct SyncSet {
  std::vector<int> stages;  // ascending
  bool operator==(const SyncSet&) const = default;
};

struct Schedule {
  std::string name;
  ScheduleShape shape;
  std::vector<std::vector<int>> worker_of;        // [pipe][stage] -> worker
  std::vector<int> pipe_of_micro_batch;           // [micro_batch] -> pipe
  std::vector<std::vector<Instruction>> program;  // [worker], in issue order
  std::vector<SyncSet> sync_sets;                 // filled by InsertGradientSync: one a stage, then the tied ones
  int credits = 1;                                // fewest receives that a channel must post ahead (forward doubling: 2)
  // [pipe][stage] -> how many (AssignSlots).
  std::vector<std::vector<int>> stash_slots, input_slots, handoff_slots;
};

bool IsCompute(Op op);
bool IsBackward(Op op);  // kBackward or kBackwardInput: what frees the next stage down
char OpLetter(Op op);    // F B I W for compute, as in the field

// "p1.2F0", "p0.3B5/1" (part 1 of a halved backward), "p0.1SENDF4", "p0.2RECVB4", "p0.0LOAD1", "SYNC#3", "UPDATE#3", "UPDATE".
std::string ToString(const Instruction& instruction);
// The same, with the stages of the sync set: "SYNC{0,3}", "UPDATE{0,3}".
std::string ToString(const Schedule& schedule, const Instruction& instruction);

// Whether a pipe runs against the order of the workers: pipes f..2f-1 of 2f, never the only one.
bool IsUpPipe(const ScheduleShape& shape, int pipe);
// Whether any instruction is a backward; a schedule without one is an evaluation.
bool HasBackward(const Schedule& schedule);
// The largest Instruction::parts, at least 1.
int MaxParts(const Schedule& schedule);

// Holders of a stage, ascending and unique: the workers that hold it in any pipe.
std::vector<int> WorkersOfStage(const Schedule& schedule, int stage);
// Members of a sync set's rendezvous, ascending and unique.
std::vector<int> WorkersOfSyncSet(const Schedule& schedule, const SyncSet& set);

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_SCHEDULE_H_
