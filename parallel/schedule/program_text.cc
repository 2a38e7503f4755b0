#include "parallel/schedule/program_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lycia::schedule {
namespace {

constexpr int kWindow = 12;  // instructions shown on each side

int MarkOf(const std::vector<Place>& marked, int worker) {
  for (const Place& place : marked) {
    if (place.worker == worker) return place.index;
  }
  return -1;
}

}  // namespace

std::string ProgramText(const Schedule& schedule, const std::vector<Place>& marked) {
  double share = 0;  // of the first marked program
  if (!marked.empty() && marked[0].worker < static_cast<int>(schedule.program.size())) {
    share = static_cast<double>(marked[0].index) / static_cast<double>(std::max<std::size_t>(1, schedule.program[marked[0].worker].size()));
  }
  std::string text;
  for (int worker = 0; worker < static_cast<int>(schedule.program.size()); ++worker) {
    const auto& program = schedule.program[worker];
    const int size = static_cast<int>(program.size());
    const int mark = MarkOf(marked, worker);
    const int centre = mark >= 0 ? mark : static_cast<int>(share * size);
    const int first = std::max(0, centre - kWindow);
    const int last = std::min(size, centre + kWindow + 1);
    absl::StrAppend(&text, "worker ", worker, " |", first > 0 ? " ..." : "");
    for (int i = first; i < last; ++i) {
      const std::string cell = ToString(schedule, program[i]);
      absl::StrAppend(&text, " ", i == mark ? absl::StrCat(">>", cell, "<<") : cell);
    }
    absl::StrAppend(&text, last < size ? " ..." : "", mark >= size ? " >>end<<" : "", "\n");
  }
  return text;
}

Status ErrorAt(const Schedule& schedule, const Place& place, const std::string& why) {
  const bool known = place.worker >= 0 && place.worker < static_cast<int>(schedule.program.size());
  const bool inside = known && place.index >= 0 && place.index < static_cast<int>(schedule.program[place.worker].size());
  const std::string cell = inside ? ToString(schedule, schedule.program[place.worker][place.index]) : "end";
  return InvalidArgument("schedule ", schedule.name, ", worker ", place.worker, ", instruction ", place.index, " (", cell, "): ", why, "\n",
                         ProgramText(schedule, {place}));
}

}  // namespace lycia::schedule
