// EmulatedPipeline: one worker of a schedule without a model. The executor and its messages are real, stages have no data and take the
// time they are told. What a schedule's bubbles are, measured, where there is no cluster.
#ifndef LYCIA_PARALLEL_PIPELINE_EMULATED_PIPELINE_H_
#define LYCIA_PARALLEL_PIPELINE_EMULATED_PIPELINE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "parallel/pipeline/emulated_clock.h"
#include "parallel/pipeline/executor.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/schedule.h"
#include "runtime/comm/communicator.h"

namespace lycia {

// How long each instruction of one worker takes, in the costs' ticks: Program::durations.
std::vector<std::int64_t> DurationsOf(const schedule::Schedule& schedule, int worker, const schedule::TickCosts& costs);

// What a step without data does outside its pipeline: nothing.
class NoActions final : public StepActions {
 public:
  void LoadInputs(Stream&, const SampleRange&, void*) override {}
  void LoadLabels(Stream&, const SampleRange&, void*) override {}
  void SynchronizeGradients(Stream&, int) override {}
  void UpdateSet(Stream&, int) override {}
  void Update(Stream&) override {}
  double* SampleLosses(const SampleRange&) override { return nullptr; }
};

class EmulatedPipeline {
 public:
  struct Args {
    const schedule::Schedule* schedule = nullptr;  // complete and proven; outlives the pipeline
    schedule::TickCosts costs;                     // in nanoseconds
    ClockKind clock = ClockKind::kLogical;
    std::int64_t message_bytes = 65536;  // of a whole micro-batch
    int credits = 2;
    StepObserver* observer = nullptr;  // may be null
    WaitGuard* guard = nullptr;        // of every wait; may be null
  };
  // Collective over `world`, whose ranks are the schedule's workers.
  static StatusOr<std::unique_ptr<EmulatedPipeline>> Open(const Args& args, Communicator& world);
  ~EmulatedPipeline();

  // Collective. Runs the schedule once and returns its makespan in ns.
  StatusOr<std::int64_t> Step();

  const EmulatedClock& clock() const { return *clock_; }
  const Program& program() const { return program_; }

 private:
  explicit EmulatedPipeline(const Args& args) : args_(args) {}
  Status SplitSyncGroups(Communicator& world);

  Args args_;
  std::unique_ptr<EmulatedClock> clock_;  // first: it outlives the communicators
  std::unique_ptr<Communicator> ranks_;
  std::vector<std::unique_ptr<Communicator>> groups_;
  std::map<int, Communicator*> group_of_set_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::map<std::pair<int, int>, std::unique_ptr<Stage>> stages_;
  std::unique_ptr<Executor> executor_;
  Program program_;
  std::int64_t step_ = 0;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_EMULATED_PIPELINE_H_
