// Emulated workers against the simulator: the same check for ranks as threads and as processes.
#ifndef LYCIA_PARALLEL_PIPELINE_EMULATION_CHECK_FOR_TEST_H_
#define LYCIA_PARALLEL_PIPELINE_EMULATION_CHECK_FOR_TEST_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/pipeline/emulated_pipeline.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"

namespace lycia {

// The end of every instruction on the emulated clock.
class EndsOfInstructions final : public StepObserver {
 public:
  void Begin(const schedule::Instruction&, const std::string&) override {}
  void End(const schedule::Instruction&) override { ends.push_back(clock->now_ns()); }
  const EmulatedClock* clock = nullptr;
  std::vector<std::int64_t> ends;
};

constexpr int kManyStages = 32;  // from here on fewer cases, so that the test stays short

// Costs with no common divisor, so that any other order of additions shows; all in ns.
inline std::vector<schedule::TickCosts> CostsForTest(int stages) {
  schedule::TickCosts plain;
  plain.forward = 1'000'003, plain.backward = 2'000'029, plain.input = 1'100'009, plain.weight = 900'019;
  schedule::TickCosts links = plain;
  links.latency = 310'019, links.transmit = 170'003;
  schedule::TickCosts all = links;
  all.transmit = 1'300'021;  // more than a forward: messages queue
  all.sync = 4'000'037, all.update = 600'011;
  schedule::TickCosts bubbles = all;
  bubbles.sync = 700'027;
  for (int stage = 0; stage < stages; ++stage) {
    const std::int64_t more = 97'003 * ((stage * 7) % 5);
    all.stages.push_back({1'000'003 + more, 2'000'029 + 2 * more, 1'100'009 + more, 900'019 + more});
  }
  if (stages >= kManyStages) return {plain, all};
  return {plain, links, bubbles, all};
}

// A schedule under given costs, and when the simulator says everything ends.
struct EmulationCase {
  schedule::Schedule schedule;
  schedule::TickCosts costs;
  schedule::Timeline timeline;

  std::string Label() const {
    return StrCat(schedule.name, " D", schedule.shape.workers, " N", schedule.shape.micro_batches, ", latency ", costs.latency,
                  ", transmit ", costs.transmit, ", sync ", costs.sync);
  }
};

// Every schedule of the table on so many workers, where it takes that many; sums of gradients at the end, in bubbles, or as early as can
// be with updates of single sets. The sync sets are those of a model with a tied embedding.
inline StatusOr<std::vector<EmulationCase>> EmulationCases(int workers, const std::vector<int>& micro_batches) {
  std::vector<EmulationCase> cases;
  for (const schedule::Generator& generator : schedule::Generators()) {
    for (const int n : micro_batches) {
      const auto compute = schedule::Generate(generator.name, {.workers = workers, .micro_batches = n});
      if (!compute.ok()) continue;
      for (const schedule::TickCosts& costs : CostsForTest(compute->shape.stages)) {
        using Sync = schedule::GradientSyncMode;
        using Update = schedule::UpdateMode;
        const auto [sync, update] = costs.sync == 0        ? std::pair{Sync::kLazy, Update::kDecided}
                                    : costs.stages.empty() ? std::pair{Sync::kEagerOpt, Update::kDecided}
                                                           : std::pair{Sync::kEager, Update::kEager};
        const schedule::Schedule schedule =
            schedule::Complete(*compute, {.sync = sync, .update = update, .costs = costs, .tied = {{{0, compute->shape.stages - 1}}}});
        LYCIA_RETURN_IF_ERROR(schedule::Verify(schedule, {.credits = EmulatedPipeline::Args().credits}));
        LYCIA_ASSIGN_OR_RETURN(schedule::Timeline timeline, schedule::Simulate(schedule, {.costs = costs}));
        cases.push_back({schedule, costs, std::move(timeline)});
      }
    }
  }
  return cases;
}

// Two steps (one where there are many workers); every instruction must end when the simulator says. Collective.
inline Status CheckCase(const EmulationCase& expected, Communicator& world) {
  EndsOfInstructions observer;
  LYCIA_ASSIGN_OR_RETURN(
      const std::unique_ptr<EmulatedPipeline> pipeline,
      EmulatedPipeline::Open({.schedule = &expected.schedule, .costs = expected.costs, .message_bytes = 512, .observer = &observer},
                             world));
  observer.clock = &pipeline->clock();
  for (int step = 0; step < (world.size() < kManyStages ? 2 : 1); ++step) {
    observer.ends.clear();
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t makespan, pipeline->Step());
    if (makespan != expected.timeline.makespan) {
      return absl::InternalError(StrCat(expected.Label(), ": makespan ", makespan, " ns, the simulator's is ", expected.timeline.makespan));
    }
    const auto worker = static_cast<std::size_t>(world.rank());
    const std::vector<schedule::Instruction>& program = expected.schedule.program[worker];
    if (observer.ends.size() != program.size()) return absl::InternalError(StrCat(expected.Label(), ": instructions are missing"));
    for (std::size_t i = 0; i < program.size(); ++i) {
      if (program[i].op == schedule::Op::kGradientSync) continue;  // goes on beside the worker
      const std::int64_t end = expected.timeline.spans[worker][i].end;
      if (observer.ends[i] == end) continue;
      return absl::InternalError(StrCat(expected.Label(), ", worker ", worker, ": ", schedule::ToString(expected.schedule, program[i]),
                                        " ends at ", observer.ends[i], " ns, in the simulator at ", end));
    }
  }
  return OkStatus();
}

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_EMULATION_CHECK_FOR_TEST_H_
