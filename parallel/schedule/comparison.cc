#include "parallel/schedule/comparison.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/sync_slack.h"

namespace lycia::schedule {

std::int64_t CountMessages(const Schedule& schedule) {
  std::int64_t count = 0;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    for (const Instruction& instruction : schedule.program[worker]) {
      if (!IsCompute(instruction.op)) continue;
      const auto message = Produces(schedule.shape, instruction);
      count += message && ReceiverOf(schedule, *message) != worker;
    }
  }
  return count;
}

ComparedSchedule Compared(std::string name, StatusOr<Schedule> schedule, const TimingOptions& options) {
  ComparedSchedule entry{.name = std::move(name), .status = schedule.status()};
  if (!schedule.ok()) return entry;
  if (schedule->name != entry.name) absl::StrAppend(&entry.name, ": ", schedule->name);  // auto
  const int micro_batches = schedule->shape.micro_batches;
  StatusOr<TimedSchedule> timed = TimeSchedule(*std::move(schedule), options);
  entry.status = timed.status();
  if (!timed.ok()) return entry;
  const StatusOr<std::vector<SyncSlack>> slacks = SyncSlacks(timed->schedule, timed->ticks);
  entry.status = slacks.status();
  if (!slacks.ok()) return entry;
  const double unit = static_cast<double>(timed->ticks.ticks_per_unit);
  for (const SyncSlack& slack : *slacks) {
    entry.slack.resize(std::max<std::size_t>(entry.slack.size(), slack.set.stages.front() + 1), MakespanUnits(timed->timeline));
    double& least = entry.slack[slack.set.stages.front()];
    least = std::min(least, static_cast<double>(slack.slack) / unit);
  }
  entry.makespan = MakespanUnits(timed->timeline);
  entry.bubble = BubbleRatio(timed->timeline);
  entry.span_bubble = SpanBubbleRatio(timed->timeline);
  entry.peaks = PeakActivations(timed->schedule);
  entry.weights = WeightsCopies(timed->schedule);
  entry.messages = static_cast<double>(CountMessages(timed->schedule)) / micro_batches;
  entry.timed = *std::move(timed);
  return entry;
}

namespace {

double MeanOf(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double MostOf(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }
double LeastOf(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }

std::string Plain(double value) { return absl::StrFormat("%.6g", value); }
std::string Percent(double ratio) { return absl::StrFormat("%.1f", 100 * ratio); }

}  // namespace

const std::vector<Column>& Columns() {
  static const std::vector<Column>& columns = *new std::vector<Column>{
      {"makespan", "makespan", [](const ComparedSchedule& e) { return e.makespan; },
       [](const ComparedSchedule& e) { return Plain(e.makespan); }},
      {"bubble %", "bubble_ratio", [](const ComparedSchedule& e) { return e.bubble; },
       [](const ComparedSchedule& e) { return Percent(e.bubble); }},
      {"span %", "span_bubble_ratio", [](const ComparedSchedule& e) { return e.span_bubble; },
       [](const ComparedSchedule& e) { return Percent(e.span_bubble); }},
      {"peak act.", "peak_activations", [](const ComparedSchedule& e) { return MostOf(e.peaks); },
       [](const ComparedSchedule& e) {
         const std::string least = Plain(LeastOf(e.peaks)), most = Plain(MostOf(e.peaks));
         return least == most ? most : absl::StrCat(least, "-", most);
       }},
      {"weights", "weights_copies", [](const ComparedSchedule& e) { return e.weights; },
       [](const ComparedSchedule& e) { return Plain(e.weights); }},
      {"messages", "messages_per_micro_batch", [](const ComparedSchedule& e) { return e.messages; },
       [](const ComparedSchedule& e) { return Plain(e.messages); }},
      {"sync slack", "sync_slack", [](const ComparedSchedule& e) { return MeanOf(e.slack); },
       [](const ComparedSchedule& e) { return absl::StrFormat("%.1f", MeanOf(e.slack)); }, true},
  };
  return columns;
}

bool ComparisonRound::IsBest(const Column& column, const ComparedSchedule& entry) const {
  double best = column.value(entry), worst = best;
  for (const ComparedSchedule& each : entries) {
    if (!each.status.ok()) continue;
    const double value = column.value(each);
    const bool better = column.more_is_better ? value > best : value < best;
    if (better) best = value;
    if (column.more_is_better ? value < worst : value > worst) worst = value;
  }
  constexpr double kSame = 1e-9;
  return std::abs(column.value(entry) - best) <= kSame * std::abs(best) && std::abs(worst - best) > kSame * std::abs(worst);
}

}  // namespace lycia::schedule
