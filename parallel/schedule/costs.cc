#include "parallel/schedule/costs.h"

#include <array>
#include <numeric>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace lycia::schedule {
namespace {

// Costs below 2^20 in ticks of at least 2^-20 take at most 2^41 ticks, so that 2^22 of them in sequence fit into int64.
constexpr std::size_t kMaxDigits = 6;
constexpr std::int64_t kMaxTicksPerUnit = std::int64_t{1} << 20;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

bool AllDigits(std::string_view text) {
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return !text.empty();
}

std::int64_t Digits(std::string_view text) {
  std::int64_t value = 0;
  for (const char c : text) value = value * 10 + (c - '0');
  return value;
}

Fraction Reduced(std::int64_t numerator, std::int64_t denominator) {
  const std::int64_t divisor = std::gcd(numerator, denominator);
  return {numerator / divisor, denominator / divisor};
}

Fraction Times(const Fraction& a, std::int64_t numerator, std::int64_t denominator) {
  return Reduced(a.numerator * numerator, a.denominator * denominator);
}

Fraction Sum(const Fraction& a, const Fraction& b, int sign = 1) {
  return Reduced(a.numerator * b.denominator + sign * b.numerator * a.denominator, a.denominator * b.denominator);
}

bool Less(const Fraction& a, const Fraction& b) { return a.numerator * b.denominator < b.numerator * a.denominator; }

}  // namespace

StatusOr<Fraction> ParseFraction(std::string_view text) {
  const std::size_t mark = text.find_first_of("./");
  const std::string_view head = text.substr(0, mark);
  const std::string_view tail = mark == std::string_view::npos ? std::string_view() : text.substr(mark + 1);
  const bool has_tail = mark != std::string_view::npos;
  if (!AllDigits(head) || head.size() > kMaxDigits || (has_tail && (!AllDigits(tail) || tail.size() > kMaxDigits))) {
    return InvalidArgument("\"", View(text), "\" is not a cost: write a number such as 2, 3/2 or 18.522, at most ", kMaxDigits,
                           " digits on each side");
  }
  if (!has_tail) return Fraction{Digits(head), 1};
  if (text[mark] == '/') {
    if (Digits(tail) == 0) return InvalidArgument("\"", View(text), "\" divides by zero");
    return Reduced(Digits(head), Digits(tail));
  }
  std::int64_t scale = 1;
  for (std::size_t i = 0; i < tail.size(); ++i) scale *= 10;
  return Reduced(Digits(head) * scale + Digits(tail), scale);
}

std::string ToString(const Fraction& fraction) {
  if (fraction.denominator == 1) return absl::StrCat(fraction.numerator);
  return absl::StrCat(fraction.numerator, "/", fraction.denominator);
}

namespace {

// One list, "F=1,B=2".
StatusOr<StageCosts> ParseStageCosts(std::string_view text) {
  constexpr std::string_view kKeys = "FBIW";
  std::array<std::optional<Fraction>, 4> given;
  const std::vector<std::string> items = absl::StrSplit(View(text), ',', absl::SkipWhitespace());
  for (const std::string& padded : items) {
    const std::string item(absl::StripAsciiWhitespace(padded));
    const std::size_t key = item.size() > 2 && item[1] == '=' ? kKeys.find(item[0]) : std::string_view::npos;
    if (key == std::string_view::npos) {
      return InvalidArgument("cost \"", item, "\" is none of F=, B=, I=, W=; write for example F=1,B=2 or F=1,I=1,W=3/4");
    }
    if (given[key]) return InvalidArgument("cost ", item.substr(0, 1), " is given twice in \"", View(text), "\"");
    LYCIA_ASSIGN_OR_RETURN(given[key], ParseFraction(std::string_view(item).substr(2)));
  }
  auto [forward, backward, input, weight] = given;
  StageCosts costs;
  costs.forward = forward.value_or(Fraction{1, 1});
  if (!backward) {
    if (!input && !weight) backward = Times(costs.forward, 2, 1);
    if (input || weight) backward = Sum(input ? *input : *weight, weight ? *weight : *input);
  }
  costs.backward = *backward;
  for (const auto& half : {input, weight}) {
    if (half && (input.has_value() != weight.has_value()) && Less(costs.backward, *half)) {
      return InvalidArgument("a part of the backward costs more than the whole, B=", ToString(costs.backward), "; give both I and W");
    }
  }
  costs.input = input ? *input : weight ? Sum(costs.backward, *weight, -1) : Times(costs.backward, 1, 2);
  costs.weight = weight ? *weight : input ? Sum(costs.backward, *input, -1) : Times(costs.backward, 1, 2);
  if (costs.forward.numerator == 0 || costs.backward.numerator == 0) {
    return InvalidArgument("forward and backward must cost something: F=", ToString(costs.forward), ", B=", ToString(costs.backward));
  }
  return costs;
}

// The kinds of compute, for what is done to each.
constexpr Fraction StageCosts::*kKinds[] = {&StageCosts::forward, &StageCosts::backward, &StageCosts::input, &StageCosts::weight};

constexpr std::size_t kMaxStages = 4096;

}  // namespace

StageCosts Sum(const StageCosts& a, const StageCosts& b) {
  StageCosts sum;
  for (auto kind : kKinds) sum.*kind = Sum(a.*kind, b.*kind);
  return sum;
}

StatusOr<Costs> ParseCosts(std::string_view text) {
  const std::vector<std::string> lists = absl::StrSplit(View(text), ';');
  Costs costs;
  if (lists.size() == 1) {
    LYCIA_ASSIGN_OR_RETURN(static_cast<StageCosts&>(costs), ParseStageCosts(text));
    return costs;
  }
  if (lists.size() > kMaxStages) return InvalidArgument("costs of ", lists.size(), " stages; at most ", kMaxStages);
  for (auto kind : kKinds) costs.*kind = Fraction{0, 1};
  for (const std::string& list : lists) {
    LYCIA_ASSIGN_OR_RETURN(const StageCosts stage, ParseStageCosts(list));
    for (auto kind : kKinds) {
      costs.*kind = Sum(costs.*kind, stage.*kind);
      if ((costs.*kind).denominator > kMaxTicksPerUnit)
        return InvalidArgument("the costs of the stages have no small common denominator; round them");
    }
    costs.stages.push_back(stage);
  }
  for (auto kind : kKinds) costs.*kind = Times(costs.*kind, 1, static_cast<std::int64_t>(lists.size()));
  return costs;
}

StatusOr<TickCosts> ToTicks(const Costs& costs, int divisor) {
  std::vector<Fraction> all = {costs.latency, costs.transmit, costs.sync, costs.update};
  if (costs.stages.empty()) {
    for (auto kind : kKinds) all.push_back(costs.*kind);
  }
  for (const StageCosts& stage : costs.stages) {
    for (auto kind : kKinds) all.push_back(stage.*kind);
  }
  std::int64_t unit = 1;
  for (const Fraction& cost : all) {
    if (cost.denominator <= kMaxTicksPerUnit) unit = std::lcm(unit, cost.denominator);
    if (cost.denominator > kMaxTicksPerUnit || unit > kMaxTicksPerUnit / divisor) {
      return InvalidArgument("the costs F=", ToString(costs.forward), " B=", ToString(costs.backward), " I=", ToString(costs.input),
                             " W=", ToString(costs.weight), " latency=", ToString(costs.latency), " transmit=", ToString(costs.transmit),
                             " sync=", ToString(costs.sync), " update=", ToString(costs.update),
                             " have no small common denominator; round them, to three decimals for example");
    }
  }
  unit *= divisor;
  const auto ticks = [unit](const Fraction& cost) { return cost.numerator * (unit / cost.denominator); };
  const auto stage_ticks = [&](const StageCosts& stage) {
    return StageTicks{ticks(stage.forward), ticks(stage.backward), ticks(stage.input), ticks(stage.weight)};
  };
  TickCosts result;
  result.ticks_per_unit = unit;
  if (costs.stages.empty()) static_cast<StageTicks&>(result) = stage_ticks(costs);
  for (const StageCosts& stage : costs.stages) result.stages.push_back(stage_ticks(stage));
  result.latency = ticks(costs.latency);
  result.transmit = ticks(costs.transmit);
  result.sync = ticks(costs.sync);
  result.update = ticks(costs.update);
  return result;
}

StatusOr<TickCosts> InNanoseconds(const Costs& costs, std::int64_t unit_ns) {
  constexpr double kLongestNs = 1e15;
  Status too_long;
  const auto ns = [&](const Fraction& cost) -> std::int64_t {
    if (cost.value() * static_cast<double>(unit_ns) > kLongestNs) {
      too_long = InvalidArgument("a cost of ", ToString(cost), " units of ", unit_ns, " ns is beyond eleven days; use a smaller unit");
      return 0;
    }
    const std::int64_t whole = cost.numerator / cost.denominator * unit_ns;
    const std::int64_t rest = cost.numerator % cost.denominator * unit_ns;  // < 10^6 * 10^12
    return whole + (rest + cost.denominator / 2) / cost.denominator;
  };
  const auto stage_ns = [&](const StageCosts& stage) {
    return StageTicks{ns(stage.forward), ns(stage.backward), ns(stage.input), ns(stage.weight)};
  };
  TickCosts result;
  if (costs.stages.empty()) static_cast<StageTicks&>(result) = stage_ns(costs);
  for (const StageCosts& stage : costs.stages) result.stages.push_back(stage_ns(stage));
  result.ticks_per_unit = unit_ns;
  result.latency = ns(costs.latency);
  result.transmit = ns(costs.transmit);
  result.sync = ns(costs.sync);
  result.update = ns(costs.update);
  if (!too_long.ok()) return too_long;
  return result;
}

}  // namespace lycia::schedule
