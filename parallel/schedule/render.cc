#include "parallel/schedule/render.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "parallel/schedule/instruction_label.h"
#include "parallel/schedule/json_text.h"
#include "parallel/schedule/messages.h"

namespace lycia::schedule {
namespace {

std::string Ticks(std::int64_t ticks, const Timeline& timeline) {
  return ShortestNumber(static_cast<double>(ticks) / static_cast<double>(timeline.ticks_per_unit));
}

}  // namespace

std::string CostsJson(const Costs& costs) {
  const auto one = [](const StageCosts& stage) {
    return absl::StrCat("\"F\": ", ShortestNumber(stage.forward.value()), ", \"B\": ", ShortestNumber(stage.backward.value()),
                        ", \"I\": ", ShortestNumber(stage.input.value()), ", \"W\": ", ShortestNumber(stage.weight.value()));
  };
  std::string text = absl::StrCat(
      "{", one(costs), ", \"latency\": ", ShortestNumber(costs.latency.value()), ", \"transmit\": ", ShortestNumber(costs.transmit.value()),
      ", \"sync\": ", ShortestNumber(costs.sync.value()), ", \"update\": ", ShortestNumber(costs.update.value()));
  if (!costs.stages.empty()) {
    const auto stage = [&](std::string* out, const StageCosts& each) { absl::StrAppend(out, "{", one(each), "}"); };
    absl::StrAppend(&text, ", \"stages\": [", absl::StrJoin(costs.stages, ", ", stage), "]");
  }
  return text + "}";
}

std::string Summary(const Schedule& schedule, const Timeline& timeline) {
  const std::vector<double> peaks = PeakActivations(schedule);
  const auto [least, most] = std::minmax_element(peaks.begin(), peaks.end());
  const double copies = WeightsCopies(schedule);
  return absl::StrCat("makespan ", Ticks(timeline.makespan, timeline), ", bubble ", absl::StrFormat("%.1f %%", 100 * BubbleRatio(timeline)),
                      ", peak activations ", ShortestNumber(*least), *least == *most ? "" : absl::StrCat(" to ", ShortestNumber(*most)),
                      ", ", ShortestNumber(copies), copies == 1 ? " copy" : " copies", " of the weights");
}

std::string RenderJson(const Schedule& schedule, const Timeline& timeline, const Costs& costs) {
  const ScheduleShape& shape = schedule.shape;
  const auto number = [](std::string* out, double value) { *out += ShortestNumber(value); };
  const auto list = [](std::string* out, const std::vector<int>& values) { absl::StrAppend(out, "[", absl::StrJoin(values, ", "), "]"); };
  std::string text = absl::StrCat("{\n  \"name\": ", JsonQuoted(schedule.name), ",\n  \"workers\": ", shape.workers,
                                  ",\n  \"stages\": ", shape.stages, ",\n  \"chunks\": ", shape.chunks, ",\n  \"pipes\": ", shape.pipes,
                                  ",\n  \"micro_batches\": ", shape.micro_batches, ",\n  \"costs\": ", CostsJson(costs));
  absl::StrAppend(
      &text, ",\n  \"makespan\": ", Ticks(timeline.makespan, timeline), ",\n  \"bubble_ratio\": ", ShortestNumber(BubbleRatio(timeline)),
      ",\n  \"span_bubble_ratio\": ", ShortestNumber(SpanBubbleRatio(timeline)), ",\n  \"peak_activations\": [",
      absl::StrJoin(PeakActivations(schedule), ", ", number), "],\n  \"weights_copies\": ", ShortestNumber(WeightsCopies(schedule)),
      ",\n  \"worker_of\": [", absl::StrJoin(schedule.worker_of, ", ", list), "],\n  \"program\": [\n");
  for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
    text += "    [";
    for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
      const Interval span = timeline.spans[worker][i];
      absl::StrAppend(&text, i == 0 ? "" : ", ", "{\"op\": \"", ToString(schedule, schedule.program[worker][i]),
                      "\", \"start\": ", Ticks(span.start, timeline), ", \"end\": ", Ticks(span.end, timeline),
                      schedule.program[worker][i].paired_with_next ? ", \"paired_with_next\": true}" : "}");
    }
    absl::StrAppend(&text, "]", worker + 1 < schedule.program.size() ? "," : "", "\n");
  }
  return text + "  ]\n}\n";
}

namespace {

// A kind of one direction and chunk, from the plain one.
SpanKind Variant(SpanKind plain, bool up, bool odd_chunk) {
  return static_cast<SpanKind>(static_cast<int>(plain) + (up ? 1 : odd_chunk ? 2 : 0));
}
static_assert(static_cast<int>(SpanKind::kForwardUp) == static_cast<int>(SpanKind::kForward) + 1);
static_assert(static_cast<int>(SpanKind::kBackwardChunk) == static_cast<int>(SpanKind::kBackward) + 2);
static_assert(static_cast<int>(SpanKind::kWeightChunk) == static_cast<int>(SpanKind::kWeight) + 2);

// The blocks of one worker's program.
void AddBlocks(const std::vector<Instruction>& program, const std::vector<Interval>& spans, int row, Panel& panel) {
  for (std::size_t i = 0; i < program.size(); ++i) {
    const std::size_t first = i;
    while (program[i].paired_with_next && i + 1 < program.size()) ++i;
    if (i > first) panel.blocks.push_back({row, spans[first].start, spans[i].end});
  }
}

}  // namespace

SpanKind KindOf(const Schedule& schedule, const Instruction& instruction) {
  SpanKind plain = SpanKind::kForward;
  switch (instruction.op) {
    case Op::kForward:
      break;
    case Op::kBackward:
    case Op::kBackwardInput:
      plain = SpanKind::kBackward;
      break;
    case Op::kBackwardWeight:
      plain = SpanKind::kWeight;
      break;
    case Op::kLoad:
      return SpanKind::kLoad;
    case Op::kGradientSync:
      return SpanKind::kSync;
    case Op::kUpdate:
      return SpanKind::kUpdate;
    default:
      return SpanKind::kMessage;
  }
  return Variant(plain, IsUpPipe(schedule.shape, instruction.pipe), ChunkOf(schedule, instruction.pipe, instruction.stage) % 2 == 1);
}

Panel SchedulePanel(const Schedule& schedule, const Timeline& timeline) {
  Panel panel;
  panel.title = absl::StrCat(schedule.name, ", ", schedule.shape.workers, " workers, ", schedule.shape.micro_batches,
                             schedule.shape.micro_batches == 1 ? " micro-batch" : " micro-batches");
  panel.note = Summary(schedule, timeline);
  for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
    const auto& program = schedule.program[worker];
    const int row = static_cast<int>(panel.rows.size());
    panel.rows.push_back(absl::StrCat("worker ", worker));
    bool syncs = false;
    for (std::size_t i = 0; i < program.size(); ++i) {
      const Interval& span = timeline.spans[worker][i];
      if (IsReceive(program[i].op) || span.end <= span.start) continue;  // waiting is the gap that it leaves
      const bool sync = program[i].op == Op::kGradientSync;
      syncs = syncs || sync;
      const std::string label = IsCompute(program[i].op) ? Label(schedule, program[i]).substr(1) : "";
      panel.spans.push_back(
          {sync ? row + 1 : row, span.start, span.end, KindOf(schedule, program[i]), label, ToString(schedule, program[i])});
    }
    AddBlocks(program, timeline.spans[worker], row, panel);
    if (syncs) panel.rows.push_back("");
  }
  return panel;
}

std::string RenderSvg(const Schedule& schedule, const Timeline& timeline) {
  const Panel panel = SchedulePanel(schedule, timeline);
  PanelsOptions options;
  options.ns_per_unit = timeline.ticks_per_unit;
  options.unit = "units";
  options.max_width = 12000;  // 128 micro-batches on 32 workers, each with its number, scrolled
  return DrawPanels({&panel, 1}, options);
}

}  // namespace lycia::schedule
