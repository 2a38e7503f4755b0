#include "parallel/schedule/simulate_steps.h"

#include <algorithm>
#include <optional>

#include "parallel/schedule/messages.h"
#include "runtime/core/check.h"

namespace lycia::schedule {
namespace {

// The sets that a worker joins, in the order of its program.
std::vector<int> JoinedSets(const Schedule& schedule, int worker) {
  std::vector<int> sets;
  for (const Instruction& instruction : schedule.program[worker]) {
    if (instruction.op == Op::kGradientSync) sets.push_back(instruction.sync_set);
  }
  return sets;
}

bool HasSetUpdates(const Schedule& schedule, int worker) {
  const auto& program = schedule.program[worker];
  return std::any_of(program.begin(), program.end(), [](const Instruction& i) { return i.op == Op::kUpdate && i.sync_set >= 0; });
}

// Of whatever needs no look at the worker's program: everything but updates.
std::int64_t ComputeTicks(const Schedule& schedule, const TickCosts& all, const Instruction& instruction) {
  if (!IsCompute(instruction.op)) return 0;
  const bool own = !all.stages.empty();
  const StageTicks& costs = own ? all.stages[instruction.stage] : all;
  const std::int64_t cost = instruction.op == Op::kForward         ? costs.forward
                            : instruction.op == Op::kBackward      ? costs.backward
                            : instruction.op == Op::kBackwardInput ? costs.input
                                                                   : costs.weight;
  return cost / (own ? instruction.parts : schedule.shape.chunks * instruction.parts);
}

}  // namespace

std::int64_t Ticks(const Schedule& schedule, const TickCosts& costs, int worker, const Instruction& instruction) {
  if (instruction.op != Op::kUpdate) return ComputeTicks(schedule, costs, instruction);
  if (instruction.sync_set < 0) return HasSetUpdates(schedule, worker) ? 0 : costs.update;
  return costs.update / std::max<std::int64_t>(1, static_cast<std::int64_t>(JoinedSets(schedule, worker).size()));
}

namespace {

std::vector<Step> StepsOfWorker(const Schedule& schedule, const SimulateOptions& options, int worker, int max_parts,
                                bool explicit_messages) {
  const auto number = [&](const Message& message) { return MessageIndex(schedule.shape, max_parts, message); };
  const std::vector<int> joined = JoinedSets(schedule, worker);
  const std::int64_t set_update = options.costs.update / std::max<std::int64_t>(1, static_cast<std::int64_t>(joined.size()));
  const std::int64_t last_update = HasSetUpdates(schedule, worker) ? 0 : options.costs.update;
  std::vector<Step> steps;
  steps.reserve(schedule.program[worker].size());
  for (const Instruction& instruction : schedule.program[worker]) {
    Step step;
    step.ticks = ComputeTicks(schedule, options.costs, instruction);
    step.compute = IsCompute(instruction.op);
    step.paired = instruction.paired_with_next;
    step.set = instruction.sync_set;
    std::optional<Message> makes;
    if (step.compute) {
      if (const auto needs = Consumes(schedule.shape, instruction)) step.needs = number(*needs);
      if (!explicit_messages) makes = Produces(schedule.shape, instruction);
    } else if (IsReceive(instruction.op)) {
      step.kind = StepKind::kReceive;
      step.needs = number(MessageOf(instruction));
    } else if (IsSend(instruction.op)) {
      step.kind = StepKind::kSend;
      makes = MessageOf(instruction);
    } else if (instruction.op == Op::kGradientSync) {
      LYCIA_CHECK(step.set >= 0 && step.set < static_cast<int>(schedule.sync_sets.size())) << ToString(instruction) << " has no set ";
      step.kind = StepKind::kSync;
      step.ticks = options.costs.sync;
    } else if (instruction.op == Op::kUpdate) {
      step.kind = StepKind::kUpdate;
      step.ticks = step.set < 0 ? last_update : set_update;
      const auto join = std::find(joined.begin(), joined.end(), step.set);
      if (join != joined.end()) step.join = static_cast<std::int32_t>(join - joined.begin());
    }
    if (makes) {
      step.makes = number(*makes);
      step.receiver = ReceiverOf(schedule, *makes);
    }
    if (!options.durations.empty()) step.ticks = options.durations[worker][steps.size()];
    steps.push_back(step);
  }
  return steps;
}

}  // namespace

std::vector<std::vector<Step>> Steps(const Schedule& schedule, const SimulateOptions& options) {
  bool explicit_messages = false;
  for (const auto& program : schedule.program) {
    for (const Instruction& instruction : program) explicit_messages = explicit_messages || IsSend(instruction.op);
  }
  const int max_parts = MaxParts(schedule);
  std::vector<std::vector<Step>> steps;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    steps.push_back(StepsOfWorker(schedule, options, worker, max_parts, explicit_messages));
  }
  return steps;
}

}  // namespace lycia::schedule
