// A plan for people and for programs; see plan.h.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "parallel/schedule/json_text.h"
#include "parallel/schedule/plan.h"

namespace lycia::schedule {
namespace {

std::string Activations(const PlanCandidate& candidate) {
  const std::string most = ShortestNumber(candidate.most_activations);
  return candidate.least_activations == candidate.most_activations
             ? most
             : absl::StrCat(ShortestNumber(candidate.least_activations), " to ", most);
}

// The first line of what a generator or Verify has to say.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

std::string PlanTable(const Plan& plan) {
  std::size_t width = 8;
  for (const PlanCandidate& candidate : plan.candidates) width = std::max(width, candidate.name.size());
  const int name = static_cast<int>(width);
  std::string text = absl::StrFormat("%-*s  makespan  bubble  activations  copies  order\n", name, "schedule");
  for (const PlanCandidate& candidate : plan.candidates) {
    if (!candidate.refused.empty()) {
      absl::StrAppendFormat(&text, "%-*s  cannot run: %s\n", name, candidate.name, FirstLine(candidate.refused));
      continue;
    }
    absl::StrAppendFormat(&text, "%-*s  %8.6g  %4.1f %%  %11s  %6g  %s%s\n", name, candidate.name, candidate.makespan,
                          100 * candidate.bubble, Activations(candidate), candidate.copies, candidate.how,
                          candidate.tried > 1 ? absl::StrCat(" (best of ", candidate.tried, ")") : "");
  }
  return plan.why.empty() ? text : absl::StrCat(text, plan.why, "\n");
}

std::string PlanJson(const Plan& plan) {
  const auto object = [](std::string* out, const PlanCandidate& candidate) {
    absl::StrAppend(out, "    {\"name\": ", JsonQuoted(candidate.name));
    if (!candidate.refused.empty()) {
      absl::StrAppend(out, ", \"refused\": ", JsonQuoted(candidate.refused), "}");
      return;
    }
    absl::StrAppend(out, ", \"order\": ", JsonQuoted(candidate.how), ", \"orders_tried\": ", candidate.tried,
                    ", \"makespan\": ", ShortestNumber(candidate.makespan), ", \"bubble_ratio\": ", ShortestNumber(candidate.bubble),
                    ", \"peak_activations\": [", ShortestNumber(candidate.least_activations), ", ",
                    ShortestNumber(candidate.most_activations), "], \"weights_copies\": ", ShortestNumber(candidate.copies), "}");
  };
  return absl::StrCat("{\n  \"why\": ", JsonQuoted(plan.why), ",\n  \"candidates\": [\n", absl::StrJoin(plan.candidates, ",\n", object),
                      "\n  ]\n}\n");
}

}  // namespace lycia::schedule
