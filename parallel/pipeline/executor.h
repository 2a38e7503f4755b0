// Executor: runs one worker's program of a schedule. It knows no scheme, no model and no transport.
//
// Messages of pipe p over the boundary between stages s and s+1 go through two channels, one per direction, each a FIFO with its own
// receive slots, also where both stages are on this worker; the executor checks that every message is the one its instruction names.
// Everything is set up once: Run allocates nothing.
#ifndef LYCIA_PARALLEL_PIPELINE_EXECUTOR_H_
#define LYCIA_PARALLEL_PIPELINE_EXECUTOR_H_

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "parallel/pipeline/emulated_clock.h"
#include "parallel/pipeline/stage.h"
#include "parallel/schedule/schedule.h"
#include "runtime/comm/communicator.h"
#include "runtime/device/arena.h"

namespace lycia {

// What the instructions that are not pipeline work mean: the trainer's part of a step.
class StepActions {
 public:
  virtual ~StepActions() = default;
  // Enqueues the inputs (tokens, images) or the labels of one micro-batch into memory of the stage.
  virtual void LoadInputs(Stream& stream, const SampleRange& samples, void* to) = 0;
  virtual void LoadLabels(Stream& stream, const SampleRange& samples, void* to) = 0;
  // Starts the sum of a set's gradients; compute goes on meanwhile.
  virtual void SynchronizeGradients(Stream& stream, int sync_set) = 0;
  // The optimizer's step on one set whose sum was started; then what ends the step: the decision, and the step on all other sets.
  virtual void UpdateSet(Stream& stream, int sync_set) = 0;
  virtual void Update(Stream& stream) = 0;
  // [samples.count] f64, where the last stage writes the loss of each sample; nullptr to drop them.
  virtual double* SampleLosses(const SampleRange& samples) = 0;
  // The same of the labels that had the largest logit.
  virtual double* SampleHits(const SampleRange&) { return nullptr; }
};

// Told of every instruction; must not allocate. The board, the watchdog's record and the trace hang on it.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void Begin(const schedule::Instruction& instruction, const std::string& text) = 0;
  virtual void End(const schedule::Instruction& instruction) = 0;
};

// One worker's instructions with their printed forms.
struct Program {
  std::vector<schedule::Instruction> instructions;
  std::vector<std::string> texts;
  std::vector<std::int64_t> durations;  // ns of each, for an emulated clock; empty: none
};
Program ProgramOf(const schedule::Schedule& schedule, int worker);

class Executor {
 public:
  struct Args {
    const schedule::Schedule* schedule = nullptr;    // placement and channels; the programs given to Run must share its placement
    const schedule::Schedule* evaluation = nullptr;  // its forward-only counterpart, or null: message buffers must do for both
    int worker = 0;
    std::map<std::pair<int, int>, Stage*> stages;  // (pipe, stage) of every stage this worker holds
    Communicator* pipeline = nullptr;              // rank = worker
    int credits = 2;
    StepObserver* observer = nullptr;  // may be null
  };
  // Declares message buffers; Open() then opens the channels on them.
  Executor(Args args, ArenaPlan& plan);
  // clock: of an emulated device, whose arena has no memory. Compute then takes time on it, gradient sums and updates are its rendezvous
  // instead of actions; messages are real, in memory of their own.
  Status Open(const Arena& arena, EmulatedClock* clock = nullptr);

  // One step (or one evaluation pass) of a program. `context` carries what is the same for all micro-batches; micro-batch m holds the
  // samples [first_sample + m * samples_per_micro_batch, ...), its part k of p the k-th p-th of them. Returns the first failure of the
  // stream, with the instruction it happened in.
  Status Run(const Program& program, StageContext context, std::int64_t first_sample, std::int64_t samples_per_micro_batch,
             StepActions& actions);

 private:
  // One side of a channel. Messages of parts are smaller than those of whole micro-batches.
  struct Sender {
    std::unique_ptr<Channel> channel;
    int peer = 0, lane = 0, credits = 0;
    std::int64_t bytes = 0;  // of the largest message
    std::span<const TensorSpec> specs;
    std::vector<Region> regions;
    std::vector<void*> buffers;       // a ring
    std::vector<Event> events;        // of the last send from each buffer
    std::vector<std::byte> emulated;  // the memory of the buffers where the device has none
    std::size_t filled = 0;           // the next one that compute fills: ahead of the sends where a paired block makes several messages
    std::size_t sent = 0;             // the next one to send
  };
  struct Receiver {
    struct Held {
      int slot = -1, micro_batch = -1, part = 0;
    };
    std::unique_ptr<Channel> channel;
    int peer = 0, lane = 0;
    std::int64_t bytes = 0;
    int credits = 0;
    Region region;
    std::vector<Held> held;  // received and not yet used: the first `count`
    std::size_t count = 0;
  };
  // A stage of this worker with its neighbours.
  struct Node {
    Stage* stage = nullptr;
    std::unique_ptr<Sender> activation_out, gradient_out;
    std::unique_ptr<Receiver> activation_in, gradient_in;
  };

  // What both ends of a channel find in the two schedules.
  struct Traffic {
    int credits = 0;  // most messages that the receiver holds; at least Args::credits, and what the schedule needs
    int buffers = 0;  // most messages that the sender has made and not sent; at least as many
    int parts = 0;    // of the largest message
  };
  Traffic TrafficOf(int pipe, int boundary, bool gradient) const;
  std::unique_ptr<Sender> PlanSender(int peer, int lane, std::span<const TensorSpec> specs, const Traffic& traffic, ArenaPlan& plan) const;
  std::unique_ptr<Receiver> PlanReceiver(int peer, int lane, std::span<const TensorSpec> specs, const Traffic& traffic,
                                         ArenaPlan& plan) const;
  Status Execute(const schedule::Instruction& instruction, StageContext& context, StepActions& actions);
  // The buffer for the next message, once its last send is done; nullptr when there is no such neighbour.
  static void* NextBuffer(Stream& stream, Sender* sender);
  void Send(Stream& stream, Sender& sender, const schedule::Instruction& instruction);
  // Waits for the next message, checks whose it is and holds it for its user, which may come several instructions later.
  Status Receive(Stream& stream, Receiver& receiver, const schedule::Instruction& instruction);
  // The message held for an instruction; its slot is posted again once what has been enqueued until Release has read it.
  static Receiver::Held* Find(Receiver& receiver, const schedule::Instruction& instruction);
  static const void* MessageFor(Receiver* receiver, const schedule::Instruction& instruction);
  static void Release(Stream& stream, Receiver* receiver, const schedule::Instruction& instruction);

  Args args_;
  EmulatedClock* clock_ = nullptr;
  std::map<std::pair<int, int>, Node> nodes_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_EXECUTOR_H_
