// Ranks see different parts, and must decide alike: by the maximum of what they saw. A rank that does not is found.
#include "parallel/reuse/agreement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/reuse/observation.h"
#include "parallel/reuse/simulated_layers_for_test.h"

namespace lycia::reuse {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// What an all-reduce by maximum over ranks gives.
Observation Reduced(const std::vector<Observation>& ranks) {
  const std::size_t layers = ranks[0].layers.size(), size = static_cast<std::size_t>(PackedSize(static_cast<std::int64_t>(layers)));
  std::vector<double> maximum(size, -kInfinity), packed(size);
  for (const Observation& rank : ranks) {
    PackForMaximum(rank, packed);
    for (std::size_t i = 0; i < size; ++i) maximum[i] = std::max(maximum[i], packed[i]);
  }
  Observation reduced;
  reduced.layers.resize(layers);
  UnpackMaximum(maximum, reduced);
  return reduced;
}

TEST(Observation, TheWorstOfTheRanksCounts) {
  const double nan = std::nan("");
  // Layers: seen by all; by rank 1 only; by none; with a NaN; probed by two.
  std::vector<Observation> ranks(3);
  for (Observation& rank : ranks) rank = {.loss = 2.5, .layers = std::vector<LayerObservation>(5)};
  ranks[0].layers[0] = {.measured = true, .kept = 0.2, .error = 0.3};
  ranks[1].layers[0] = {.measured = true, .kept = 0.4, .error = 0.1};
  ranks[2].layers[0] = {.measured = true, .kept = 0.3, .error = 0.2};
  ranks[1].layers[1] = {.measured = true, .kept = 0.1, .error = 0};
  ranks[0].layers[3] = {.measured = true, .kept = 0.5, .error = nan};
  ranks[2].layers[3] = {.measured = true, .kept = 0.6, .error = 0.9};
  ranks[0].layers[4] = {.probed = true, .cosine = 0.99};
  ranks[2].layers[4] = {.probed = true, .cosine = -0.5};
  std::vector<int> order = {0, 1, 2};
  do {
    const Observation all = Reduced(
        {ranks[static_cast<std::size_t>(order[0])], ranks[static_cast<std::size_t>(order[1])], ranks[static_cast<std::size_t>(order[2])]});
    EXPECT_EQ(all.loss, 2.5);
    EXPECT_TRUE(all.layers[0].measured && all.layers[1].measured && !all.layers[2].measured && all.layers[3].measured);
    EXPECT_EQ(all.layers[0].kept, 0.4);
    EXPECT_EQ(all.layers[0].error, 0.3);
    EXPECT_EQ(all.layers[1].kept, 0.1);
    EXPECT_EQ(all.layers[1].error, 0);
    EXPECT_EQ(all.layers[2].kept, 1);
    EXPECT_EQ(all.layers[3].error, kInfinity);
    EXPECT_EQ(all.layers[3].kept, 0.6);
    EXPECT_TRUE(all.layers[4].probed && !all.layers[4].measured && !all.layers[0].probed);
    EXPECT_EQ(all.layers[4].cosine, -0.5);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Observation, ACosineOrLossThatIsNoNumberIsTheWorst) {
  const Observation all = Reduced({{.loss = 1, .layers = {{.probed = true, .cosine = 1}}},
                                   {.loss = std::nan(""), .layers = {{.probed = true, .cosine = std::nan("")}}}});
  EXPECT_EQ(all.layers[0].cosine, -kInfinity);
  EXPECT_FALSE(std::isfinite(all.loss));
}

// Ranks with different rows; one of them with another idea of what products cost.
TEST(Agreement, RanksWithTheSameReducedObservationsDecideAlike) {
  const ControllerOptions options{.layers = 3, .steps = 500, .hash_every = 10, .probe_every = 9, .patience = 70, .cooldown_steps = 20};
  std::vector<Controller> ranks(3, Make(options));
  ranks.push_back(Make(options, [](std::int64_t, double kept) { return Seconds{.dense = 1, .reuse = 0.5 + kept}; }));
  std::mt19937_64 random(3);
  const auto uniform = [&](double least, double most) { return std::uniform_real_distribution<double>(least, most)(random); };
  bool other_differs = false;
  for (std::int64_t step = 0; step < 500; ++step) {
    std::vector<Observation> seen(4);
    for (std::size_t rank = 0; rank < 4; ++rank) {
      seen[rank].loss = 1;
      for (const LayerOrder& order : ranks[rank].orders()) {
        seen[rank].layers.push_back({.measured = order.reuse || order.measure,
                                     .kept = uniform(0.2, 0.75),
                                     .error = 0.1 * order.width,
                                     .probed = order.probe,
                                     .cosine = uniform(0.979, 1)});
      }
    }
    const Observation reduced = Reduced(seen);
    for (Controller& rank : ranks) rank.Decide(reduced);
    std::vector<std::uint64_t> fingerprints;
    for (const Controller& rank : ranks) fingerprints.push_back(rank.Fingerprint());
    const Status of_three = CheckAgreement(step + 1, std::span(fingerprints).first(3));
    ASSERT_TRUE(of_three.ok()) << of_three;
    const Status of_all = CheckAgreement(step + 1, fingerprints);
    if (of_all.ok()) continue;
    other_differs = true;
    EXPECT_THAT(std::string(of_all.message()),
                AllOf(HasSubstr("on ranks 0, 1, 2"), HasSubstr("on ranks 3"), HasSubstr(StrCat("before step ", step + 2))));
    EXPECT_EQ(of_all.code(), absl::StatusCode::kInternal);
  }
  EXPECT_TRUE(other_differs);
}

TEST(Agreement, OneRankOrNoneAgrees) {
  EXPECT_TRUE(CheckAgreement(0, {}).ok());
  const std::uint64_t one = 5;
  EXPECT_TRUE(CheckAgreement(0, std::span(&one, 1)).ok());
}

}  // namespace
}  // namespace lycia::reuse
