#include "tests/grid/traffic_for_test.h"

namespace lycia {

std::map<std::string, Counter> Traffic(const Grid& grid) {
  std::map<std::string, Counter> traffic;
  for (int g = 0; g < kNumGridGroups; ++g) {
    const GridGroup group = static_cast<GridGroup>(g);
    if (grid.along(group) == nullptr) continue;
    const Counters& counters = grid.along(group)->counters();
    for (std::size_t o = 0; o < counters.of.size(); ++o) {
      for (std::size_t t = 0; t < counters.of[o].size(); ++t) {
        const Counter& counter = counters.of[o][t];
        if (counter.calls == 0) continue;
        traffic[StrCat(Name(group), " ", Name(static_cast<Tag>(t)), " ", Name(static_cast<Operation>(o)))] = counter;
      }
    }
  }
  return traffic;
}

Status CompareTraffic(const Grid& grid, const std::map<std::string, Counter>& expected, std::string_view of) {
  const std::map<std::string, Counter> actual = Traffic(grid);
  std::map<std::string, Counter> all = expected;
  all.insert(actual.begin(), actual.end());
  for (const auto& [what, unused] : all) {
    const Counter want = expected.contains(what) ? expected.at(what) : Counter{}, got = actual.contains(what) ? actual.at(what) : Counter{};
    if (want == got) continue;
    return absl::InternalError(StrCat("rank ", grid.rank(), " of ", of, ": ", what, " has ", got.calls, " calls with ", got.bytes,
                                      " bytes, not ", want.calls, " with ", want.bytes));
  }
  return OkStatus();
}

}  // namespace lycia
