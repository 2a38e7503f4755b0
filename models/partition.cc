#include "models/partition.h"

#include <algorithm>
#include <limits>

namespace lycia {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// best[k][i]: the least value of `combine` over k stages that take the first i layers, with no stage dearer than `cap`.
template <typename Combine>
std::vector<std::vector<double>> Solve(std::span<const double> prefix, int stages, double cap, Combine combine) {
  const int layers = static_cast<int>(prefix.size()) - 1;
  std::vector<std::vector<double>> best(static_cast<std::size_t>(stages + 1), std::vector<double>(prefix.size(), kNever));
  best[0][0] = 0;
  for (int k = 1; k <= stages; ++k) {
    for (int i = k; i <= layers; ++i) {
      for (int j = k - 1; j < i; ++j) {
        const double cost = prefix[static_cast<std::size_t>(i)] - prefix[static_cast<std::size_t>(j)];
        const double before = best[static_cast<std::size_t>(k - 1)][static_cast<std::size_t>(j)];
        if (cost > cap || before == kNever) continue;
        double& value = best[static_cast<std::size_t>(k)][static_cast<std::size_t>(i)];
        value = std::min(value, combine(before, cost));
      }
    }
  }
  return best;
}

}  // namespace

StatusOr<std::vector<int>> PartitionByCost(std::span<const double> costs, int stages) {
  const int layers = static_cast<int>(costs.size());
  if (layers < stages) {
    return InvalidArgument("the model has ", layers, " layers (embedding, attention and MLP blocks, head), fewer than ", stages,
                           " stages; use at most ", layers, " stages or more blocks");
  }
  std::vector<double> prefix = {0};
  for (const double c : costs) prefix.push_back(prefix.back() + c);
  const auto total = static_cast<std::size_t>(layers);
  const double dearest =
      Solve(prefix, stages, kNever, [](double a, double b) { return std::max(a, b); })[static_cast<std::size_t>(stages)][total];
  const double cap = dearest * (1 + 1e-12);
  auto square = [](double before, double cost) { return before + cost * cost; };
  const auto best = Solve(prefix, stages, cap, square);
  // Walk back: the cut that explains the optimum.
  std::vector<int> cuts(static_cast<std::size_t>(stages) + 1, 0);
  int i = layers;
  for (int k = stages; k >= 1; --k) {
    cuts[static_cast<std::size_t>(k)] = i;
    int chosen = k - 1;
    for (int j = i - 1; j >= k - 1; --j) {
      const double cost = prefix[static_cast<std::size_t>(i)] - prefix[static_cast<std::size_t>(j)];
      const double before = best[static_cast<std::size_t>(k - 1)][static_cast<std::size_t>(j)];
      if (cost <= cap && before != kNever && square(before, cost) == best[static_cast<std::size_t>(k)][static_cast<std::size_t>(i)]) {
        chosen = j;
        break;
      }
    }
    i = chosen;
  }
  return cuts;
}

StatusOr<std::vector<int>> PartitionByCounts(std::span<const std::int64_t> counts, int layers, int stages) {
  if (static_cast<int>(counts.size()) != stages) {
    return InvalidArgument("the partition lists ", counts.size(), " stages, the schedule has ", stages,
                           "; give one layer count for each stage");
  }
  std::vector<int> cuts = {0};
  for (const std::int64_t count : counts) {
    if (count < 1) return InvalidArgument("a stage of the partition has ", count, " layers; each needs at least one");
    cuts.push_back(cuts.back() + static_cast<int>(count));
  }
  if (cuts.back() != layers) {
    return InvalidArgument("the partition adds up to ", cuts.back(), " layers, the model has ", layers,
                           " (the embedding, two for each block, the head)");
  }
  return cuts;
}

}  // namespace lycia
