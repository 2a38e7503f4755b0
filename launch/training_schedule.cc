#include "launch/training_schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launch/user_schedule.h"
#include "models/partition.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/order_search.h"
#include "parallel/schedule/plan.h"

namespace lycia {
namespace {

using schedule::Costs;
using schedule::Fraction;
using schedule::Schedule;

// What one CPU core's memory and links do while it computes so many FLOPs: enough to choose a schedule and to place sums and updates in it.
constexpr double kFlopsPerSecond = 50e9, kMemoryBytesPerSecond = 10e9, kLinkBytesPerSecond = 2e9, kLatencySeconds = 20e-6;
constexpr double kUpdateBytesPerParameter = 28;  // weight, gradient and two states read, all but the gradient written; f32
constexpr double kSyncBytesPerParameter = 4;

// Costs are told to a thousandth, and at least that: no instruction is free.
constexpr std::int64_t kDenominator = 1000;
Fraction Rounded(double value) { return {std::max<std::int64_t>(1, std::llround(value * kDenominator)), kDenominator}; }

schedule::StageCosts CostsOf(double forward, double input, double weight) {
  return {.forward = Rounded(forward), .backward = Rounded(input + weight), .input = Rounded(input), .weight = Rounded(weight)};
}

// The part of each stage by FLOPs (computing again is part of the input gradient), the rest by the speeds above. pipes: of the schedule,
// which with replicas says whether there is anything to sum.
Costs CostsOfRun(const TrainingScheduleArgs& args, const std::vector<int>& cuts, int pipes) {
  const TrainerOptions& options = args.options;
  const int workers = options.stages;
  double total = 0;
  for (const LayerPlan& layer : args.layers) total += layer.forward_flops();
  const double unit = std::max(total, 1.0) / workers, units_per_second = kFlopsPerSecond / unit;
  Costs costs;
  double all_forward = 0, all_input = 0, all_weight = 0;
  for (std::size_t s = 0; s + 1 < cuts.size(); ++s) {
    double forward = 0, input = 0, weight = 0;
    for (int i = cuts[s]; i < cuts[s + 1]; ++i) {
      const LayerPlan& layer = args.layers[static_cast<std::size_t>(i)];
      forward += layer.forward_flops() / unit;
      input += (layer.input_flops() + (options.recompute == Recompute::kNone ? 0 : layer.forward_flops())) / unit;
      weight += layer.weight_flops() / unit;
    }
    costs.stages.push_back(CostsOf(forward, input, weight));
    all_forward += forward, all_input += input, all_weight += weight;
  }
  static_cast<schedule::StageCosts&>(costs) = CostsOf(all_forward / workers, all_input / workers, all_weight / workers);
  const double of_worker = static_cast<double>(args.num_parameters) / workers;
  costs.latency = Rounded(kLatencySeconds * units_per_second);
  costs.transmit = Rounded(static_cast<double>(args.message_bytes) / kLinkBytesPerSecond * units_per_second);
  costs.update = Rounded(pipes * of_worker * kUpdateBytesPerParameter / kMemoryBytesPerSecond * units_per_second);
  if (pipes * options.data > 1) costs.sync = Rounded(of_worker * kSyncBytesPerParameter / kLinkBytesPerSecond * units_per_second);
  return costs;
}

// Of an emulated device: as told, in ms, and what the largest message takes on the link, to a tenth of a microsecond.
StatusOr<Costs> EmulatedCosts(const TrainingScheduleArgs& args, int stages) {
  constexpr std::int64_t kTenthsOfMicroseconds = 10'000;
  const EmulationOptions& emulation = *args.options.emulation;
  Costs costs = emulation.costs;
  if (!costs.stages.empty() && static_cast<int>(costs.stages.size()) != stages) {
    return InvalidArgument("emulate.cost gives ", costs.stages.size(), " stages, but there are ", stages,
                           "; give one list for all, or one for each");
  }
  if (emulation.bytes_per_second > 0) {
    const double seconds = static_cast<double>(args.message_bytes) / emulation.bytes_per_second;
    costs.transmit = {std::llround(seconds * 1e3 * kTenthsOfMicroseconds), kTenthsOfMicroseconds};
  }
  return costs;
}

// As a user measured them.
StatusOr<Costs> MeasuredCosts(const TrainerOptions& options, int stages, int pipes) {
  StatusOr<Costs> costs = schedule::CostsForStages(*options.measured_costs, stages);
  if (!costs.ok()) {
    return InvalidArgument("parallel.cost gives ", options.measured_costs->stages.size(), " stages, but there are ", stages,
                           "; give one list for all, or one for each");
  }
  if (pipes * options.data == 1) costs->sync = {};  // nothing to sum
  return costs;
}

StatusOr<Costs> CostsOf(const TrainingScheduleArgs& args, const std::vector<int>& cuts, int pipes) {
  if (args.options.measured_costs) return MeasuredCosts(args.options, static_cast<int>(cuts.size()) - 1, pipes);
  if (args.options.emulation) return EmulatedCosts(args, static_cast<int>(cuts.size()) - 1);
  return CostsOfRun(args, cuts, pipes);
}

StatusOr<std::vector<int>> CutsOf(const TrainerOptions& options, std::span<const LayerPlan> layers, int stages) {
  if (!options.partition.empty()) return PartitionByCounts(options.partition, static_cast<int>(layers.size()), stages);
  std::vector<double> flops;
  for (const LayerPlan& layer : layers) flops.push_back(layer.forward_flops());
  return PartitionByCost(flops, stages);
}

schedule::GenerateOptions GenerateOptionsOf(const TrainerOptions& options) {
  return {.workers = options.stages,
          .micro_batches = static_cast<int>(options.micro_batches),
          .pipes = options.pipes,
          .chunks = options.chunks,
          .max_activations = options.max_activations};
}

// The model cut for a schedule of that shape, and what its stages cost.
Status CutFor(const schedule::ScheduleShape& shape, const TrainingScheduleArgs& args, TrainingSchedule& planned) {
  LYCIA_ASSIGN_OR_RETURN(planned.cuts, CutsOf(args.options, args.layers, shape.stages));
  LYCIA_ASSIGN_OR_RETURN(planned.costs, CostsOf(args, planned.cuts, shape.pipes));
  return OkStatus();
}

// The schedule of that name. Some are planned by what their stages cost, and how many stages there are is the schedule's to say.
StatusOr<TrainingSchedule> Named(const TrainingScheduleArgs& args) {
  schedule::GenerateOptions generate = GenerateOptionsOf(args.options);
  TrainingSchedule planned;
  LYCIA_ASSIGN_OR_RETURN(planned.compute, schedule::Generate(args.options.schedule, generate));
  LYCIA_RETURN_IF_ERROR(CutFor(planned.compute.shape, args, planned));
  generate.costs = planned.costs;
  LYCIA_ASSIGN_OR_RETURN(planned.compute, schedule::Generate(args.options.schedule, generate));
  return planned;
}

// The same on every rank, also on those that hold no layer with states.
Status CheckStateParts(const Schedule& schedule, std::span<const LayerPlan> layers) {
  const int parts = schedule::MaxParts(schedule);
  for (const LayerPlan& layer : layers) {
    if (parts == 1 || layer.states().empty()) continue;
    return InvalidArgument("schedule ", schedule.name, " runs micro-batches in ", parts, " parts, but ", layer.states().front().name,
                           " is taken over several samples, so that micro-batches cannot be divided; use a parallel.schedule that keeps "
                           "them whole");
  }
  return OkStatus();
}

Status AcceptParts(const Schedule& schedule, const TrainingScheduleArgs& args) {
  const TrainerOptions& options = args.options;
  LYCIA_RETURN_IF_ERROR(CheckStateParts(schedule, args.layers));
  LYCIA_RETURN_IF_ERROR(CheckGridParts(schedule, options.x * options.y * options.z));
  return CheckParts(schedule, options.samples_per_micro_batch);
}

// The fastest schedule of all whose stages the model can be cut into and whose parts divide the samples.
StatusOr<TrainingSchedule> Fastest(const TrainingScheduleArgs& args) {
  const schedule::PlanRules rules{.costs = [&](const schedule::ScheduleShape& shape) -> StatusOr<Costs> {
                                    TrainingSchedule planned;
                                    LYCIA_RETURN_IF_ERROR(CutFor(shape, args, planned));
                                    return planned.costs;
                                  },
                                  .accepts = [&](const Schedule& schedule) { return AcceptParts(schedule, args); }};
  StatusOr<schedule::Plan> plan = schedule::PlanSchedule(GenerateOptionsOf(args.options), rules);
  if (!plan.ok()) return FirstLine(plan.status(), "parallel.schedule = \"auto\"");
  TrainingSchedule planned;
  LYCIA_RETURN_IF_ERROR(CutFor(plan->schedule.shape, args, planned));
  planned.compute = std::move(plan->schedule);
  const bool measured = args.options.measured_costs || args.options.emulation;
  planned.why = absl::StrCat("schedules, at ", measured ? "the given costs, ms" : "costs by FLOPs (1: a worker's share of a forward)",
                             ":\n", schedule::PlanTable(*plan));
  return planned;
}

}  // namespace

StatusOr<TrainingSchedule> PlanTrainingSchedule(const TrainingScheduleArgs& args) {
  const TrainerOptions& options = args.options;
  TrainingSchedule planned;
  if (!options.schedule_csv.empty()) {
    LYCIA_ASSIGN_OR_RETURN(planned.compute, ScheduleFromCsv(options.schedule_csv, options.schedule_file, options.stages,
                                                            static_cast<int>(options.micro_batches)));
    LYCIA_RETURN_IF_ERROR(CutFor(planned.compute.shape, args, planned));
  } else {
    LYCIA_ASSIGN_OR_RETURN(planned, options.schedule == "auto" ? Fastest(args) : Named(args));
  }
  LYCIA_RETURN_IF_ERROR(CheckActivations(planned.compute, options.max_activations));
  LYCIA_RETURN_IF_ERROR(AcceptParts(planned.compute, args));
  return planned;
}

}  // namespace lycia
