// The trainer on an emulated device: the same schedule, memory plan, executor and messages, and time instead of arithmetic.
#include "launch/trainer.h"
#include "parallel/pipeline/emulated_pipeline.h"

namespace lycia {

// How long each instruction takes, and what that should come to.
Status Trainer::PlanEmulation() {
  training_.durations = DurationsOf(schedule_, worker_, emulated_costs_);
  LYCIA_ASSIGN_OR_RETURN(simulated_, schedule::Simulate(schedule_, {.costs = emulated_costs_}));
  return OkStatus();
}

Status Trainer::OpenClock(const std::map<int, Communicator*>& holders) {
  LYCIA_ASSIGN_OR_RETURN(clock_ranks_, world_->Split(std::vector<int>(static_cast<std::size_t>(world_->size()), 0)));
  LYCIA_ASSIGN_OR_RETURN(clock_, EmulatedClock::Create({.kind = options_.emulation->clock,
                                                        .latency_ns = emulated_costs_.latency,
                                                        .transmit_ns = emulated_costs_.transmit,
                                                        .sync_ns = emulated_costs_.sync,
                                                        .ranks = clock_ranks_.get(),
                                                        .sync_groups = holders,
                                                        .guard = options_.guard}));
  return OkStatus();
}

StatusOr<std::int64_t> Trainer::EmulateStep(std::int64_t step) {
  NoActions actions;
  LYCIA_RETURN_IF_ERROR(clock_->StartStep());
  LYCIA_RETURN_IF_ERROR(executor_->Run(training_, {.stream = stream_.get(), .step = step}, 0, options_.samples_per_micro_batch, actions));
  return clock_->EndStep();
}

}  // namespace lycia
