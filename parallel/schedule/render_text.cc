// The text grid; see render.h.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "parallel/schedule/instruction_label.h"
#include "parallel/schedule/render.h"

namespace lycia::schedule {
namespace {

// What a row shows: a worker's compute and updates, or its reductions, which run beside them.
enum class Lane { kCompute, kSync };

class Grid {
 public:
  Grid(const Schedule& schedule, const Timeline& timeline)
      : schedule_(schedule), timeline_(timeline), label_options_{.stage = NeedsStages(schedule)} {
    constexpr std::int64_t kMaxColumnsPerInstruction = 16;
    std::size_t longest = 1;
    for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
      longest = std::max(longest, schedule.program[worker].size());
      for (std::size_t i = 0; i < schedule.program[worker].size(); ++i) {
        const Instruction& instruction = schedule.program[worker][i];
        const Interval& span = timeline.spans[worker][i];
        syncs_ = syncs_ || Shown(Lane::kSync, instruction, span);
        blocks_ = blocks_ || instruction.paired_with_next;
        if (!Shown(Lane::kCompute, instruction, span) && !Shown(Lane::kSync, instruction, span)) continue;
        width_ = std::max(width_, Label(schedule, instruction, label_options_).size() + 1);
        quantum_ = std::gcd(quantum_, std::gcd(span.start, span.end));
      }
    }
    timed_ = quantum_ > 0 && timeline.makespan / quantum_ <= kMaxColumnsPerInstruction * static_cast<std::int64_t>(longest);
  }

  bool timed() const { return timed_; }
  bool syncs() const { return syncs_ && timed_; }

  // How to read a cell, "" where it needs no words.
  std::string Legend() const {
    std::vector<std::string> notes;
    if (schedule_.shape.pipes > 1) notes.push_back("up in small letters");
    if (label_options_.stage) notes.push_back("2F3: stage 2");
    if (blocks_) notes.push_back("F0&B1: one block");
    return notes.empty() ? "" : absl::StrCat(" (", absl::StrJoin(notes, "; "), ")");
  }

  std::string Row(std::size_t worker, Lane lane) const {
    std::string row;
    std::int64_t time = 0;
    const auto idle_until = [&](std::int64_t end) {
      for (; timed_ && time < end; time += quantum_) absl::StrAppend(&row, ".", std::string(width_ - 1, ' '));
    };
    for (std::size_t i = 0; i < schedule_.program[worker].size(); ++i) {
      const Instruction& instruction = schedule_.program[worker][i];
      const Interval& span = timeline_.spans[worker][i];
      if (!Shown(lane, instruction, span)) continue;
      std::string cell = Label(schedule_, instruction, label_options_);
      std::size_t columns = 1;
      if (timed_) {
        idle_until(span.start);
        columns = static_cast<std::size_t>((span.end - span.start) / quantum_);
        if (columns == 0) continue;
        time = span.end;
      }
      const std::size_t width = columns * width_;
      if (columns > 1) cell.resize(width - 1, '-');
      if (instruction.paired_with_next) cell.resize(std::max(cell.size(), width - 1), columns > 1 ? '-' : ' ');
      if (instruction.paired_with_next) cell += '&';
      cell.resize(width, ' ');
      row += cell;
    }
    idle_until(timeline_.makespan);
    absl::StripTrailingAsciiWhitespace(&row);
    return row;
  }

 private:
  static bool Shown(Lane lane, const Instruction& instruction, const Interval& span) {
    if (lane == Lane::kSync) return instruction.op == Op::kGradientSync && span.end > span.start;
    return IsCompute(instruction.op) || (instruction.op == Op::kUpdate && span.end > span.start);
  }

  const Schedule& schedule_;
  const Timeline& timeline_;
  const LabelOptions label_options_;
  std::int64_t quantum_ = 0;  // ticks of a column
  std::size_t width_ = 2;     // characters of a column
  bool timed_ = false;        // columns are time; otherwise issue order
  bool syncs_ = false;
  bool blocks_ = false;
};

}  // namespace

std::string RenderText(const Schedule& schedule, const Timeline& timeline) {
  const ScheduleShape& shape = schedule.shape;
  const Grid grid(schedule, timeline);
  std::string text = absl::StrCat(schedule.name, ", ", shape.workers, " workers, ", shape.micro_batches,
                                  shape.micro_batches == 1 ? " micro-batch, " : " micro-batches, ", shape.pipes,
                                  shape.pipes == 1 ? " pipe" : " pipes", grid.Legend(), "\n", Summary(schedule, timeline), "\n");
  if (!grid.timed()) text += "in issue order, not in time (the costs have no common measure for a grid; see the SVG)\n";
  const std::size_t digits = absl::StrCat(shape.workers - 1).size();
  for (std::size_t worker = 0; worker < schedule.program.size(); ++worker) {
    const std::string number = absl::StrCat(worker);
    absl::StrAppend(&text, "worker ", std::string(digits - number.size(), ' '), number, " | ", grid.Row(worker, Lane::kCompute), "\n");
    if (grid.syncs()) absl::StrAppend(&text, "  sync ", std::string(digits, ' '), " | ", grid.Row(worker, Lane::kSync), "\n");
  }
  return text;
}

}  // namespace lycia::schedule
