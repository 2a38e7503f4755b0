#include "models/partition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace lycia {
namespace {

double Dearest(std::span<const double> costs, std::span<const int> cuts) {
  double dearest = 0;
  for (std::size_t s = 0; s + 1 < cuts.size(); ++s) {
    double cost = 0;
    for (int i = cuts[s]; i < cuts[s + 1]; ++i) cost += costs[static_cast<std::size_t>(i)];
    dearest = std::max(dearest, cost);
  }
  return dearest;
}

// The truth: every way to cut.
double BestByEnumeration(std::span<const double> costs, int stages) {
  double best = 1e300;
  std::vector<int> cuts = {0};
  std::function<void()> extend = [&] {
    if (static_cast<int>(cuts.size()) == stages) {
      cuts.push_back(static_cast<int>(costs.size()));
      best = std::min(best, Dearest(costs, cuts));
      cuts.pop_back();
      return;
    }
    for (int next = cuts.back() + 1; next <= static_cast<int>(costs.size()) - (stages - static_cast<int>(cuts.size())); ++next) {
      cuts.push_back(next);
      extend();
      cuts.pop_back();
    }
  };
  extend();
  return best;
}

TEST(Partition, DearestStageIsAsCheapAsEnumerationFinds) {
  const unsigned seed = 20261121;
  std::mt19937 random(seed);
  for (int trial = 0; trial < 60; ++trial) {
    const int layers = 1 + static_cast<int>(random() % 9);
    const int stages = 1 + static_cast<int>(random() % static_cast<unsigned>(layers));
    std::vector<double> costs;
    for (int i = 0; i < layers; ++i) costs.push_back(static_cast<double>(random() % 10));
    const std::vector<int> cuts = *PartitionByCost(costs, stages);
    ASSERT_EQ(cuts.size(), static_cast<std::size_t>(stages) + 1);
    EXPECT_EQ(cuts.front(), 0);
    EXPECT_EQ(cuts.back(), layers);
    for (int s = 0; s < stages; ++s) EXPECT_LT(cuts[static_cast<std::size_t>(s)], cuts[static_cast<std::size_t>(s) + 1]) << "seed " << seed;
    EXPECT_DOUBLE_EQ(Dearest(costs, cuts), BestByEnumeration(costs, stages)) << "seed " << seed << " trial " << trial;
  }
}

TEST(Partition, RestIsEvenToo) {
  // The last layer fixes the dearest stage at 9; the first four must still split 2 and 2.
  EXPECT_EQ(*PartitionByCost(std::vector<double>{1, 1, 1, 1, 9}, 3), (std::vector<int>{0, 2, 4, 5}));
}

TEST(Partition, BadInputSaysWhatWouldDo) {
  EXPECT_EQ(PartitionByCost(std::vector<double>{1, 1}, 3).status().message(),
            "the model has 2 layers (embedding, attention and MLP blocks, head), fewer than 3 stages; use at most 2 stages or more blocks");
  EXPECT_FALSE(PartitionByCounts(std::vector<std::int64_t>{2, 3}, 6, 2).ok());
  EXPECT_FALSE(PartitionByCounts(std::vector<std::int64_t>{6, 0}, 6, 2).ok());
  EXPECT_FALSE(PartitionByCounts(std::vector<std::int64_t>{6}, 6, 2).ok());
  EXPECT_EQ(*PartitionByCounts(std::vector<std::int64_t>{1, 5}, 6, 2), (std::vector<int>{0, 1, 6}));
}

}  // namespace
}  // namespace lycia
