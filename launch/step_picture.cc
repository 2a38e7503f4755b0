#include "launch/step_picture.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/render.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/timeline_svg.h"

namespace lycia {
namespace {

using schedule::Instruction;
using schedule::Panel;
using schedule::SpanKind;

// As in all pictures of schedules; a receive is drawn as the wait that it is.
SpanKind LookOf(const schedule::Schedule& schedule, const Instruction& instruction) {
  return schedule::IsReceive(instruction.op) ? SpanKind::kWait : schedule::KindOf(schedule, instruction);
}

std::string LabelOf(const Instruction& instruction) {
  if (!schedule::IsCompute(instruction.op)) return "";
  if (instruction.parts == 1) return absl::StrCat(instruction.micro_batch);
  return absl::StrCat(instruction.micro_batch, "/", static_cast<int>(instruction.part));
}

std::vector<std::string> WorkerNames(const schedule::Schedule& schedule) {
  std::vector<std::string> names;
  for (int w = 0; w < schedule.shape.workers; ++w) names.push_back(absl::StrCat("worker ", w));
  return names;
}

// The simulated times of a schedule as a panel. Waits of receives are left white: they are the bubbles.
Panel PanelOf(const schedule::Schedule& schedule, const schedule::Timeline& timeline, double ns_per_tick) {
  Panel panel;
  panel.rows = WorkerNames(schedule);
  for (std::size_t w = 0; w < schedule.program.size(); ++w) {
    for (std::size_t i = 0; i < schedule.program[w].size(); ++i) {
      const Instruction& instruction = schedule.program[w][i];
      const schedule::Interval& at = timeline.spans[w][i];
      const SpanKind kind = LookOf(schedule, instruction);
      if (at.end == at.start || kind == SpanKind::kWait) continue;
      panel.spans.push_back({.row = static_cast<int>(w),
                             .start_ns = static_cast<std::int64_t>(static_cast<double>(at.start) * ns_per_tick),
                             .end_ns = static_cast<std::int64_t>(static_cast<double>(at.end) * ns_per_tick),
                             .kind = kind,
                             .label = LabelOf(instruction),
                             .detail = schedule::ToString(schedule, instruction)});
    }
  }
  return panel;
}

Panel WallPanel(const schedule::Schedule& schedule, std::span<const RankSpans> workers, std::int64_t start_ns) {
  Panel panel;
  panel.rows = WorkerNames(schedule);
  for (std::size_t w = 0; w < workers.size(); ++w) {
    for (const Span& span : workers[w].spans) {
      if (span.instruction < 0) continue;
      const Instruction& instruction = schedule.program[w][static_cast<std::size_t>(span.instruction)];
      const SpanKind kind = LookOf(schedule, instruction);
      if (kind == SpanKind::kWait || kind == SpanKind::kMessage) continue;
      panel.spans.push_back({.row = static_cast<int>(w),
                             .start_ns = span.start_ns + workers[w].clock_offset_ns - start_ns,
                             .end_ns = span.end_ns + workers[w].clock_offset_ns - start_ns,
                             .kind = kind,
                             .label = LabelOf(instruction),
                             .detail = schedule::ToString(schedule, instruction)});
    }
  }
  return panel;
}

}  // namespace

StatusOr<StepPicture> DrawStep(const schedule::Schedule& schedule, std::span<const RankSpans> workers, int cores) {
  if (workers.size() != schedule.program.size()) {
    return absl::InternalError(StrCat("spans of ", workers.size(), " workers for a schedule of ", schedule.program.size()));
  }
  // Measured CPU time of every instruction, and the step's first and last moment.
  std::vector<std::vector<std::int64_t>> durations(workers.size());
  std::int64_t compute_ns = 0, start_ns = INT64_MAX, end_ns = INT64_MIN;
  for (std::size_t w = 0; w < workers.size(); ++w) {
    durations[w].assign(schedule.program[w].size(), -1);
    for (const Span& span : workers[w].spans) {
      if (span.instruction < 0 || static_cast<std::size_t>(span.instruction) >= durations[w].size()) continue;
      const auto i = static_cast<std::size_t>(span.instruction);
      // A wait uses no CPU worth counting, and in the replay it is the simulator that finds out how long it lasts.
      const SpanKind kind = LookOf(schedule, schedule.program[w][i]);
      durations[w][i] = kind == SpanKind::kWait || kind == SpanKind::kMessage || kind == SpanKind::kSync ? 0 : span.cpu_ns();
      if (schedule::IsCompute(schedule.program[w][i].op)) compute_ns += span.cpu_ns();
      start_ns = std::min(start_ns, span.start_ns + workers[w].clock_offset_ns);
      end_ns = std::max(end_ns, span.end_ns + workers[w].clock_offset_ns);
    }
    for (std::size_t i = 0; i < durations[w].size(); ++i) {
      if (durations[w][i] < 0) return absl::InternalError(StrCat("worker ", w, " recorded no span of instruction ", i));
    }
  }
  StepPicture picture;
  picture.wall_ns = end_ns - start_ns;

  LYCIA_ASSIGN_OR_RETURN(const schedule::TickCosts unit, schedule::ToTicks(schedule::Costs{}, schedule::TickDivisor(schedule)));
  LYCIA_ASSIGN_OR_RETURN(const schedule::Timeline promise, schedule::Simulate(schedule, {.costs = unit}));
  std::int64_t ticks = 0;
  for (const std::int64_t work : promise.work) ticks += work;
  const double ns_per_tick = static_cast<double>(compute_ns) / static_cast<double>(std::max<std::int64_t>(1, ticks));
  picture.promised_ns = static_cast<std::int64_t>(static_cast<double>(promise.makespan) * ns_per_tick);
  picture.promised_bubble = schedule::BubbleRatio(promise);

  LYCIA_ASSIGN_OR_RETURN(const schedule::Timeline replay, schedule::Simulate(schedule, {.durations = durations}));
  picture.replayed_ns = replay.makespan;
  picture.replayed_bubble = schedule::BubbleRatio(replay);

  std::vector<Panel> panels = {PanelOf(schedule, promise, ns_per_tick), PanelOf(schedule, replay, 1.0),
                               WallPanel(schedule, workers, start_ns)};
  panels[0].title = absl::StrFormat("1. What the schedule promises: %s, %d stages, %d micro-batches", schedule.name, schedule.shape.stages,
                                    schedule.shape.micro_batches);
  panels[0].note = absl::StrFormat("backward = 2 forward, even stages, free messages: %.2f ms, %.1f %% idle",
                                   static_cast<double>(picture.promised_ns) / 1e6, 100 * picture.promised_bubble);
  panels[1].title = "2. The recorded step, replayed with each worker's measured CPU time on a core of its own";
  panels[1].note = absl::StrFormat("real stages and the update, free messages: %.2f ms, %.1f %% idle",
                                   static_cast<double>(picture.replayed_ns) / 1e6, 100 * picture.replayed_bubble);
  panels[2].title =
      absl::StrFormat("3. The wall time as it was: %d workers on %d core%s", schedule.shape.workers, cores, cores == 1 ? "" : "s");
  panels[2].note = absl::StrFormat("%.2f ms%s", static_cast<double>(picture.wall_ns) / 1e6,
                                   cores < schedule.shape.workers ? "; workers share cores, so this cannot look like panel 2" : "");
  picture.svg = schedule::DrawPanels(panels);
  return picture;
}

}  // namespace lycia
