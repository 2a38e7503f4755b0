#include "parallel/pipeline/emulated_pipeline.h"

#include <algorithm>
#include <span>

#include "parallel/schedule/simulate.h"
#include "runtime/core/check.h"
#include "runtime/device/arena.h"

namespace lycia {
namespace {

// A stage whose messages have a size and whose compute does nothing.
class IdleStage final : public Stage {
 public:
  IdleStage(int stage, int stages, std::int64_t message_bytes) : last_(stage == stages - 1) {
    if (stage > 0) inputs_ = {{DType::kU8, {message_bytes}}};
    if (!last_) outputs_ = {{DType::kU8, {message_bytes}}};
  }
  std::span<const TensorSpec> inputs() const override { return inputs_; }
  std::span<const TensorSpec> outputs() const override { return outputs_; }
  bool reads_labels() const override { return last_; }
  void* input(const StageSlots&) override { return nullptr; }
  void* labels(const StageSlots&) override { return nullptr; }
  void TakeInput(Stream&, const StageSlots&, const void*) override {}
  void Forward(StageContext&, const StageSlots&, void*) override {}
  void Backward(StageContext&, const StageSlots&, const void*, void*) override {}
  void BackwardInput(StageContext&, const StageSlots&, const void*, void*) override {}
  void BackwardWeight(StageContext&, const StageSlots&) override {}

 private:
  bool last_;
  std::vector<TensorSpec> inputs_, outputs_;
};

}  // namespace

std::vector<std::int64_t> DurationsOf(const schedule::Schedule& schedule, int worker, const schedule::TickCosts& costs) {
  std::vector<std::int64_t> durations;
  for (const schedule::Instruction& instruction : schedule.program[static_cast<std::size_t>(worker)]) {
    durations.push_back(schedule::Ticks(schedule, costs, worker, instruction));
  }
  return durations;
}

EmulatedPipeline::~EmulatedPipeline() {
  if (clock_ != nullptr) clock_->Stop();
}

StatusOr<std::unique_ptr<EmulatedPipeline>> EmulatedPipeline::Open(const Args& args, Communicator& world) {
  const schedule::Schedule& schedule = *args.schedule;
  LYCIA_CHECK_EQ(world.size(), schedule.shape.workers);
  std::unique_ptr<EmulatedPipeline> pipeline(new EmulatedPipeline(args));
  EmulatedPipeline& made = *pipeline;
  LYCIA_RETURN_IF_ERROR(made.SplitSyncGroups(world));
  LYCIA_ASSIGN_OR_RETURN(made.clock_, EmulatedClock::Create({.kind = args.clock,
                                                             .latency_ns = args.costs.latency,
                                                             .transmit_ns = args.costs.transmit,
                                                             .sync_ns = args.costs.sync,
                                                             .ranks = made.ranks_.get(),
                                                             .sync_groups = made.group_of_set_,
                                                             .guard = args.guard}));
  made.device_ = NewShapeDevice();
  LYCIA_ASSIGN_OR_RETURN(made.stream_, made.device_->NewStream());
  made.stream_->set_guard(args.guard);
  Executor::Args executor{
      .schedule = &schedule, .worker = world.rank(), .pipeline = made.ranks_.get(), .credits = args.credits, .observer = args.observer};
  for (int pipe = 0; pipe < schedule.shape.pipes; ++pipe) {
    for (int stage = 0; stage < schedule.shape.stages; ++stage) {
      if (schedule.worker_of[static_cast<std::size_t>(pipe)][static_cast<std::size_t>(stage)] != world.rank()) continue;
      auto& idle = made.stages_[{pipe, stage}] = std::make_unique<IdleStage>(stage, schedule.shape.stages, args.message_bytes);
      executor.stages[{pipe, stage}] = idle.get();
    }
  }
  ArenaPlan plan;
  made.executor_ = std::make_unique<Executor>(std::move(executor), plan);
  LYCIA_ASSIGN_OR_RETURN(const Arena arena, Arena::Allocate(*made.device_, plan));
  LYCIA_RETURN_IF_ERROR(made.executor_->Open(arena, made.clock_.get()));
  made.program_ = ProgramOf(schedule, world.rank());
  made.program_.durations = DurationsOf(schedule, world.rank(), args.costs);
  return pipeline;
}

// One communicator for each set of workers that meet, itself none where a worker is alone; disjoint sets are split off together.
Status EmulatedPipeline::SplitSyncGroups(Communicator& world) {
  LYCIA_ASSIGN_OR_RETURN(ranks_, world.Split(std::vector<int>(static_cast<std::size_t>(world.size()), 0)));
  std::map<std::vector<int>, std::vector<int>> sets_of;  // workers -> sync sets
  const schedule::Schedule& schedule = *args_.schedule;
  for (std::size_t set = 0; set < schedule.sync_sets.size(); ++set) {
    const std::vector<int> workers = schedule::WorkersOfSyncSet(schedule, schedule.sync_sets[set]);
    if (workers.size() > 1) sets_of[workers].push_back(static_cast<int>(set));
  }
  while (!sets_of.empty()) {
    std::vector<int> colors(static_cast<std::size_t>(world.size()), -1);
    std::vector<int> mine;  // sync sets
    int color = 0;
    for (auto at = sets_of.begin(); at != sets_of.end();) {
      const auto& [workers, sets] = *at;
      if (std::any_of(workers.begin(), workers.end(), [&](int w) { return colors[static_cast<std::size_t>(w)] >= 0; })) {
        ++at;
        continue;
      }
      for (const int w : workers) colors[static_cast<std::size_t>(w)] = color;
      if (colors[static_cast<std::size_t>(world.rank())] == color) mine = sets;
      ++color;
      at = sets_of.erase(at);
    }
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, world.Split(colors));
    for (const int set : mine) group_of_set_[set] = group.get();
    if (group != nullptr) groups_.push_back(std::move(group));
  }
  return OkStatus();
}

StatusOr<std::int64_t> EmulatedPipeline::Step() {
  NoActions actions;
  LYCIA_RETURN_IF_ERROR(clock_->StartStep());
  LYCIA_RETURN_IF_ERROR(executor_->Run(program_, {.stream = stream_.get(), .step = step_++}, 0, 1, actions));
  return clock_->EndStep();
}

}  // namespace lycia
