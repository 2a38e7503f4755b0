#include "parallel/schedule/compare.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "parallel/schedule/comparison.h"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/json_text.h"
#include "parallel/schedule/render.h"
#include "parallel/schedule/timed_schedule.h"

namespace lycia::schedule {
namespace {

constexpr int kMaxMicroBatches = 1'000'000;

std::string RenderTable(const CompareArgs& args, const std::vector<ComparisonRound>& rounds) {
  std::string text = absl::StrCat(args.stages, " stages, cost ", args.cost);
  for (const auto& [name, value] : {std::pair("latency", args.latency), std::pair("transmit", args.transmit), std::pair("sync", args.sync),
                                    std::pair("update", args.update)}) {
    if (value != "0") absl::StrAppend(&text, ", ", name, " ", value);
  }
  absl::StrAppend(&text, "; * best of its column\n");
  for (const ComparisonRound& round : rounds) {
    std::vector<std::vector<std::string>> rows(1, {absl::StrCat(round.micro_batches, " micro-batches")});
    for (const Column& column : Columns()) rows[0].push_back(absl::StrCat(column.title, " "));
    std::string reasons;
    for (const ComparedSchedule& entry : round.entries) {
      if (!entry.status.ok()) {
        const auto lines = absl::StrSplit(std::string(entry.status.message()), '\n');
        absl::StrAppend(&reasons, "  ", entry.name, ": ", *lines.begin(), "\n");
        continue;
      }
      rows.push_back({entry.name});
      for (const Column& column : Columns()) rows.back().push_back(column.text(entry) + (round.IsBest(column, entry) ? "*" : " "));
    }
    text += "\n";
    for (const auto& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        std::size_t width = 0;
        for (const auto& other : rows) width = std::max(width, other[i].size());
        const std::string pad(width - row[i].size(), ' ');
        absl::StrAppend(&text, i == 0 ? "" : "  ", i == 0 ? row[i] + pad : pad + row[i]);
      }
      while (text.back() == ' ') text.pop_back();
      text += "\n";
    }
    if (!reasons.empty()) absl::StrAppend(&text, "not with these sizes:\n", reasons);
  }
  return text +
         "\nbubble: idle share until everything has ended; span: while each worker is active (no barrier at the end); peak act.: most\n"
         "activations kept by a worker, in stages of D; weights: copies of the model; messages: between workers, of a micro-batch;\n"
         "sync slack: from a stage's last gradient to the end of compute, mean of the stages\n";
}

std::string RenderCompareJson(const CompareArgs& args, const Costs& costs, const std::vector<ComparisonRound>& rounds) {
  const auto number = [](std::string* out, double value) { *out += ShortestNumber(value); };
  std::string text = absl::StrCat("{\n  \"stages\": ", args.stages, ",\n  \"costs\": ", CostsJson(costs), ",\n  \"comparisons\": [");
  const char* round_separator = "\n";
  for (const ComparisonRound& round : rounds) {
    absl::StrAppend(&text, round_separator, "    {\"micro_batches\": ", round.micro_batches, ", \"schedules\": [");
    round_separator = ",\n";
    std::string impossible;
    const char* separator = "\n";
    for (const ComparedSchedule& entry : round.entries) {
      if (!entry.status.ok()) {
        absl::StrAppend(&impossible, impossible.empty() ? "\n" : ",\n", "      {\"name\": ", JsonQuoted(entry.name),
                        ", \"reason\": ", JsonQuoted(std::string(entry.status.message())), "}");
        continue;
      }
      std::vector<std::string> best;
      for (const Column& column : Columns()) {
        if (round.IsBest(column, entry)) best.push_back(JsonQuoted(column.key));
      }
      absl::StrAppend(&text, separator, "      {\"name\": ", JsonQuoted(entry.name), ", \"makespan\": ", ShortestNumber(entry.makespan),
                      ", \"bubble_ratio\": ", ShortestNumber(entry.bubble), ", \"span_bubble_ratio\": ", ShortestNumber(entry.span_bubble),
                      ", \"peak_activations\": [", absl::StrJoin(entry.peaks, ", ", number),
                      "], \"weights_copies\": ", ShortestNumber(entry.weights),
                      ", \"messages_per_micro_batch\": ", ShortestNumber(entry.messages));
      absl::StrAppend(&text, ", \"sync_slack\": [", absl::StrJoin(entry.slack, ", ", number), "], \"best\": [", absl::StrJoin(best, ", "),
                      "]}");
      separator = ",\n";
    }
    absl::StrAppend(&text, "],\n     \"impossible\": [", impossible, "]}");
  }
  return text + "]\n}\n";
}

std::string RenderCompareSvg(const std::vector<ComparisonRound>& rounds) {
  std::vector<Panel> panels;
  PanelsOptions options{.unit = "units", .max_width = 12000};
  std::int64_t unit = 1;  // ticks, common to all panels
  for (const ComparisonRound& round : rounds) {
    for (const ComparedSchedule& entry : round.entries) {
      if (entry.status.ok()) unit = std::lcm(unit, entry.timed->ticks.ticks_per_unit);
    }
  }
  options.ns_per_unit = unit;
  for (const ComparisonRound& round : rounds) {
    for (const ComparedSchedule& entry : round.entries) {
      if (!entry.status.ok()) continue;
      Panel panel = SchedulePanel(entry.timed->schedule, entry.timed->timeline);
      const std::int64_t scale = unit / entry.timed->ticks.ticks_per_unit;
      for (Span& span : panel.spans) span.start_ns *= scale, span.end_ns *= scale;
      for (Block& block : panel.blocks) block.start_ns *= scale, block.end_ns *= scale;
      panels.push_back(std::move(panel));
    }
  }
  return DrawPanels(panels, options);
}

StatusOr<std::vector<int>> ParseList(const std::string& text) {
  std::vector<int> numbers;
  for (const auto word : absl::StrSplit(text, ',')) {
    int number = 0;
    if (!absl::SimpleAtoi(word, &number) || number < 1 || number > kMaxMicroBatches) {
      return InvalidArgument("--micro-batches=", text, ": \"", word, "\" is not a number from 1 to ", kMaxMicroBatches,
                             "; give one or several, such as 8,16,32");
    }
    numbers.push_back(number);
  }
  return numbers;
}

StatusOr<std::vector<std::string>> ParseNames(const std::string& text) {
  std::vector<std::string> names;
  if (text.empty()) {
    for (const Generator& generator : Generators()) {
      if (generator.generate != Auto) names.emplace_back(generator.name);  // that would be the fastest of them once more
    }
    return names;
  }
  for (const auto word : absl::StrSplit(text, ',')) {
    names.emplace_back(word);
    const bool known = std::any_of(Generators().begin(), Generators().end(), [&](const Generator& g) { return g.name == names.back(); });
    if (!known) return Annotate(Generate(names.back(), {}).status(), "--schedules");
  }
  return names;
}

}  // namespace

StatusOr<std::string> CompareCommand(const CompareArgs& args) {
  if (args.format != "table" && args.format != "json" && args.format != "svg") {
    return InvalidArgument("--format=", args.format, " is none of table, json, svg");
  }
  if (args.stages < 1) return InvalidArgument("--stages=D is required: a number of at least 1");
  LYCIA_ASSIGN_OR_RETURN(const std::vector<int> sizes, ParseList(args.micro_batches));
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::string> names, ParseNames(args.schedules));
  LYCIA_ASSIGN_OR_RETURN(const TimingOptions options, ParseTimingFlags({args.cost, args.latency, args.transmit, args.sync, args.update},
                                                                       args.gradient_sync, args.max_activations));
  std::optional<Schedule> written;
  if (!args.from.empty()) {
    StatusOr<Schedule> parsed = ParseCsv(args.csv, std::filesystem::path(args.from).stem().string());
    if (!parsed.ok()) return Annotate(parsed.status(), args.from);
    written = *std::move(parsed);
  }
  std::vector<ComparisonRound> rounds;
  for (const int micro_batches : sizes) {
    rounds.push_back({.micro_batches = micro_batches});
    for (const std::string& name : names) {
      rounds.back().entries.push_back(Compared(
          name,
          Generate(
              name,
              {.workers = args.stages, .micro_batches = micro_batches, .costs = options.costs, .max_activations = args.max_activations}),
          options));
    }
    if (!written) continue;
    StatusOr<Schedule> fitting = *written;
    if (written->shape.micro_batches != micro_batches || written->shape.workers != args.stages) {
      fitting =
          InvalidArgument(args.from, " has ", written->shape.workers, " workers and ", written->shape.micro_batches, " micro-batches");
    }
    rounds.back().entries.push_back(Compared(written->name, std::move(fitting), options));
  }
  if (args.format == "svg") return RenderCompareSvg(rounds);
  return args.format == "json" ? RenderCompareJson(args, options.costs, rounds) : RenderTable(args, rounds);
}

}  // namespace lycia::schedule
