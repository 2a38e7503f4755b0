#include "parallel/schedule/render.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <numeric>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "parallel/schedule/messages.h"

namespace lycia::schedule {
namespace {

// Shortest form that reads back as the same number.
std::string Number(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof(digits), value).ptr};
}

std::string Ticks(std::int64_t ticks, const Timeline& timeline) {
  return Number(static_cast<double>(ticks) / static_cast<double>(timeline.ticks_per_unit));
}

// "F0", small for up pipes: "f2"; parts as "B3/1".
std::string Label(const ScheduleShape& shape, const Instruction& instruction) {
  std::string text = absl::StrCat(std::string(1, OpLetter(instruction.op)), instruction.micro_batch);
  if (instruction.parts > 1) absl::StrAppend(&text, "/", static_cast<int>(instruction.part));
  return IsUpPipe(shape, instruction.pipe) ? absl::AsciiStrToLower(text) : text;
}

struct Grid {
  std::int64_t quantum = 0;  // ticks of a column
  std::size_t width = 0;     // characters of a column
  bool timed = false;        // columns are time; otherwise issue order
};

Grid Measure(const Schedule& schedule, const Timeline& timeline) {
  constexpr std::int64_t kMaxColumnsPerInstruction = 16;
  Grid grid;
  std::size_t longest = 1;
  for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
    longest = std::max(longest, schedule.program[worker].size());
    for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      if (!IsCompute(instruction.op)) continue;
      grid.width = std::max(grid.width, Label(schedule.shape, instruction).size() + 1);
      grid.quantum = std::gcd(grid.quantum, std::gcd(timeline.spans[worker][i].start, timeline.spans[worker][i].end));
    }
  }
  grid.timed = grid.quantum > 0 && timeline.makespan / grid.quantum <= kMaxColumnsPerInstruction * static_cast<std::int64_t>(longest);
  return grid;
}

std::string Row(const Schedule& schedule, const Timeline& timeline, const Grid& grid, std::size_t worker) {
  std::string row;
  const auto idle = [&] { return absl::StrCat(".", std::string(grid.width - 1, ' ')); };
  std::int64_t time = 0;
  for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
    const Instruction& instruction = schedule.program[worker][i];
    if (!IsCompute(instruction.op)) continue;
    std::string cell = Label(schedule.shape, instruction);
    if (!grid.timed) {
      absl::StrAppend(&row, cell, std::string(grid.width - cell.size(), ' '));
      continue;
    }
    const Interval span = timeline.spans[worker][i];
    for (; time < span.start; time += grid.quantum) row += idle();
    const std::size_t columns = (span.end - span.start) / grid.quantum;
    if (columns == 0) continue;
    if (columns > 1) cell += std::string(columns * grid.width - 1 - cell.size(), '-');
    absl::StrAppend(&row, cell, std::string(columns * grid.width - cell.size(), ' '));
    time = span.end;
  }
  for (; grid.timed && time < timeline.makespan; time += grid.quantum) row += idle();
  absl::StripTrailingAsciiWhitespace(&row);
  return row;
}

}  // namespace

std::string Summary(const Schedule& schedule, const Timeline& timeline) {
  const std::vector<double> peaks = PeakActivations(schedule);
  const auto [least, most] = std::minmax_element(peaks.begin(), peaks.end());
  const double copies = WeightsCopies(schedule);
  return absl::StrCat("makespan ", Ticks(timeline.makespan, timeline), ", bubble ", absl::StrFormat("%.1f %%", 100 * BubbleRatio(timeline)),
                      ", peak activations ", Number(*least), *least == *most ? "" : absl::StrCat(" to ", Number(*most)), ", ",
                      Number(copies), copies == 1 ? " copy" : " copies", " of the weights");
}

std::string RenderText(const Schedule& schedule, const Timeline& timeline) {
  const ScheduleShape& shape = schedule.shape;
  const Grid grid = Measure(schedule, timeline);
  std::string text = absl::StrCat(schedule.name, ", ", shape.workers, " workers, ", shape.micro_batches, " micro-batches, ", shape.pipes,
                                  shape.pipes == 1 ? " pipe" : " pipes (up in small letters)", "\n", Summary(schedule, timeline), "\n");
  if (!grid.timed) text += "in issue order, not in time (the costs have no common measure for a grid; see the SVG)\n";
  const std::size_t digits = absl::StrCat(shape.workers - 1).size();
  for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
    const std::string number = absl::StrCat(worker);
    absl::StrAppend(&text, "worker ", std::string(digits - number.size(), ' '), number, " | ", Row(schedule, timeline, grid, worker), "\n");
  }
  return text;
}

std::string RenderJson(const Schedule& schedule, const Timeline& timeline, const Costs& costs) {
  const ScheduleShape& shape = schedule.shape;
  const auto number = [](std::string* out, double value) { *out += Number(value); };
  const auto list = [](std::string* out, const std::vector<int>& values) { absl::StrAppend(out, "[", absl::StrJoin(values, ", "), "]"); };
  std::string text =
      absl::StrCat("{\n  \"name\": \"", schedule.name, "\",\n  \"workers\": ", shape.workers, ",\n  \"stages\": ", shape.stages,
                   ",\n  \"chunks\": ", shape.chunks, ",\n  \"pipes\": ", shape.pipes, ",\n  \"micro_batches\": ", shape.micro_batches,
                   ",\n  \"costs\": {\"F\": ", Number(costs.forward.value()), ", \"B\": ", Number(costs.backward.value()),
                   ", \"I\": ", Number(costs.input.value()), ", \"W\": ", Number(costs.weight.value()));
  absl::StrAppend(&text, ", \"latency\": ", Number(costs.latency.value()), ", \"sync\": ", Number(costs.sync.value()),
                  "},\n  \"makespan\": ", Ticks(timeline.makespan, timeline), ",\n  \"bubble_ratio\": ", Number(BubbleRatio(timeline)),
                  ",\n  \"span_bubble_ratio\": ", Number(SpanBubbleRatio(timeline)), ",\n  \"peak_activations\": [",
                  absl::StrJoin(PeakActivations(schedule), ", ", number), "],\n  \"weights_copies\": ", Number(WeightsCopies(schedule)),
                  ",\n  \"worker_of\": [", absl::StrJoin(schedule.worker_of, ", ", list), "],\n  \"program\": [\n");
  for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
    text += "    [";
    for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
      const Interval span = timeline.spans[worker][i];
      absl::StrAppend(&text, i == 0 ? "" : ", ", "{\"op\": \"", ToString(schedule, schedule.program[worker][i]),
                      "\", \"start\": ", Ticks(span.start, timeline), ", \"end\": ", Ticks(span.end, timeline), "}");
    }
    absl::StrAppend(&text, "]", worker + 1 < schedule.program.size() ? "," : "", "\n");
  }
  return text + "  ]\n}\n";
}

SpanKind KindOf(const ScheduleShape& shape, const Instruction& instruction) {
  const bool up = IsUpPipe(shape, instruction.pipe);
  switch (instruction.op) {
    case Op::kForward: return up ? SpanKind::kForwardUp : SpanKind::kForward;
    case Op::kBackward:
    case Op::kBackwardInput: return up ? SpanKind::kBackwardUp : SpanKind::kBackward;
    case Op::kBackwardWeight: return up ? SpanKind::kWeightUp : SpanKind::kWeight;
    case Op::kLoad: return SpanKind::kLoad;
    case Op::kGradientSync: return SpanKind::kSync;
    case Op::kUpdate: return SpanKind::kUpdate;
    default: return SpanKind::kMessage;
  }
}

Panel SchedulePanel(const Schedule& schedule, const Timeline& timeline) {
  Panel panel;
  panel.title = absl::StrCat(schedule.name, ", ", schedule.shape.workers, " workers, ", schedule.shape.micro_batches, " micro-batches");
  panel.note = Summary(schedule, timeline);
  for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
    panel.rows.push_back(absl::StrCat("worker ", worker));
    for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      if (IsReceive(instruction.op)) continue;  // waiting is the gap that it leaves
      const std::string label = IsCompute(instruction.op) ? Label(schedule.shape, instruction).substr(1) : "";
      panel.spans.push_back({static_cast<int>(worker), timeline.spans[worker][i].start, timeline.spans[worker][i].end,
                             KindOf(schedule.shape, instruction), label, ToString(schedule, instruction)});
    }
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
