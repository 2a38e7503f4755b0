#include "parallel/optimizer/loss_scaler.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

using Verdict = LossScaler::Verdict;

// The rule told from the whole history instead of step by step: how often a run of good steps since the last change was complete, and how
// many steps were bad, in exponents of two.
struct Told {
  int exponent = 16;
  std::int64_t skipped = 0;
  bool gave_up = false;
};
Told TellFromHistory(const std::vector<bool>& finite, std::int64_t interval, int least) {
  Told told;
  std::size_t begin = 0;  // of the run of good steps at hand
  while (begin < finite.size()) {
    std::size_t end = begin;
    while (end < finite.size() && finite[end]) ++end;
    told.exponent += static_cast<int>(static_cast<std::int64_t>(end - begin) / interval);
    if (end == finite.size()) break;
    if (told.exponent == least) {
      told.gave_up = true;
    } else {
      --told.exponent;
      ++told.skipped;
    }
    begin = end + 1;
  }
  return told;
}

TEST(LossScaler, FollowsTheRuleOverAnyHistory) {
  const RandomStream random(7, "histories", 0);
  std::uint64_t draw = 0;
  int ups = 0, downs = 0, ends = 0;
  for (int history = 0; history < 200; ++history) {
    const std::int64_t interval = 1 + history % 7;
    const int least = history % 3 == 0 ? 15 : 0;
    const double bad = 0.05 + 0.9 * random.Uniform(draw++);
    LossScaler scaler({.initial = 65536, .growth_interval = interval, .least = std::ldexp(1.0, least)});
    std::vector<bool> finite;
    for (int step = 0; step < 40; ++step) {
      const double before = scaler.scale();
      finite.push_back(random.Uniform(draw++) >= bad);
      const Verdict verdict = scaler.Judge(finite.back());
      const Told told = TellFromHistory(finite, interval, least);
      ASSERT_EQ(scaler.scale(), std::ldexp(1.0, told.exponent)) << "history " << history << " step " << step;
      ASSERT_EQ(scaler.state().skipped_steps, told.skipped);
      ASSERT_EQ(verdict == Verdict::kUpdate, finite.back());
      ASSERT_EQ(verdict == Verdict::kGiveUp, !finite.back() && before == std::ldexp(1.0, least));
      ups += scaler.scale() > before ? 1 : 0;
      downs += verdict == Verdict::kSkip ? 1 : 0;
      ends += verdict == Verdict::kGiveUp ? 1 : 0;
      if (verdict == Verdict::kGiveUp) break;
    }
  }
  EXPECT_TRUE(ups > 100 && downs > 100 && ends > 20) << ups << ' ' << downs << ' ' << ends;
}

TEST(LossScaler, TheDefaultsAreTwoToTheSixteenthAndTwoThousandSteps) {
  LossScaler scaler({});
  for (int step = 0; step < 1999; ++step) scaler.Judge(true);
  EXPECT_EQ(scaler.scale(), 65536);
  scaler.Judge(true);
  EXPECT_EQ(scaler.scale(), 131072);
  EXPECT_EQ(scaler.Judge(false), Verdict::kSkip);
  EXPECT_EQ(scaler.state(), (LossScaler::State{.scale = 65536, .good_steps = 0, .skipped_steps = 1}));
}

TEST(LossScaler, AScaleThatIsNoPowerOfTwoEndsAtTheLeast) {
  LossScaler scaler({.initial = 10, .growth_interval = 5, .least = 3});
  EXPECT_EQ(scaler.Judge(false), Verdict::kSkip);
  EXPECT_EQ(scaler.scale(), 5);
  EXPECT_EQ(scaler.Judge(false), Verdict::kSkip);
  EXPECT_EQ(scaler.scale(), 3);
  EXPECT_EQ(scaler.Judge(false), Verdict::kGiveUp);
  EXPECT_EQ(scaler.state().skipped_steps, 2);
}

TEST(LossScaler, StaysFinite) {
  LossScaler scaler({.growth_interval = 1});
  for (int step = 0; step < 3000; ++step) scaler.Judge(true);
  EXPECT_EQ(scaler.scale(), LossScaler::kMost);
  EXPECT_EQ(scaler.Judge(false), Verdict::kSkip);
  EXPECT_EQ(scaler.scale(), LossScaler::kMost / 2);
}

TEST(LossScaler, AFixedScaleNeverMoves) {
  LossScaler scaler(FixedLossScale(1024));
  for (int step = 0; step < 5000; ++step) ASSERT_EQ(scaler.Judge(true), Verdict::kUpdate);
  EXPECT_EQ(scaler.scale(), 1024);
  EXPECT_EQ(scaler.Judge(false), Verdict::kGiveUp);
  EXPECT_EQ(scaler.scale(), 1024);
  ASSERT_TRUE(scaler.Restore({.scale = 8, .good_steps = 3, .skipped_steps = 4}).ok());
  EXPECT_EQ(scaler.state(), (LossScaler::State{.scale = 1024, .good_steps = 0, .skipped_steps = 4}));
}

TEST(LossScaler, GoesOnWhereItWasSaved) {
  const LossScaleOptions options{.growth_interval = 4};
  LossScaler whole(options);
  for (const bool finite : {true, false, true, true, true}) whole.Judge(finite);
  LossScaler resumed(options);
  ASSERT_TRUE(resumed.Restore(whole.state()).ok());
  for (const bool finite : {true, true, false, true}) {
    EXPECT_EQ(resumed.Judge(finite), whole.Judge(finite));
    EXPECT_EQ(resumed.state(), whole.state());
  }
}

TEST(LossScaler, RefusesAStateThatNoRunCanHaveHad) {
  LossScaler scaler({});
  const double infinity = std::numeric_limits<double>::infinity();
  for (const LossScaler::State& state : {LossScaler::State{.scale = 0},
                                         {.scale = -2},
                                         {.scale = infinity},
                                         {.scale = std::nan("")},
                                         {.scale = 2, .good_steps = -1},
                                         {.scale = 2, .good_steps = 0, .skipped_steps = -1}}) {
    EXPECT_EQ(scaler.Restore(state).code(), absl::StatusCode::kInvalidArgument) << state.scale;
    EXPECT_EQ(scaler.scale(), 65536);
  }
}

}  // namespace
}  // namespace lycia
