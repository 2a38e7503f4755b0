// Each rule alone, on layers whose r, err and cosine are formulas of step and width.
#include "parallel/reuse/controller.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/reuse/simulated_layers_for_test.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia::reuse {
namespace {

using ::testing::HasSubstr;

// No probe, no phase and no end within the steps of a test, unless it asks for them.
ControllerOptions Options(std::int64_t layers = 1) {
  return {.layers = layers, .steps = 1'000'000, .probe_every = 1'000'000, .patience = 1'000'000, .cooldown_steps = 50};
}

TEST(Controller, UniqueRowsSettleOnDense) {
  ControllerOptions options = Options(4);
  options.probe_every = 100;
  Controller controller = Make(options);
  const Simulation run = Simulate(controller, std::vector<SimulatedLayer>(4, Constant(1, 0, 1)), 5000);
  for (std::size_t layer = 0; layer < 4; ++layer) {
    EXPECT_EQ(run.switches(layer), 0);
    EXPECT_LE(run.measured_dense(layer), 51 + 13);  // every 100th step, and probes
    EXPECT_GE(run.measured_dense(layer), 50);
  }
  EXPECT_FALSE(controller.is_reusing(0));
  EXPECT_LE(run.seconds, 1.01 * run.dense_seconds);
}

TEST(Controller, DuplicatedRowsAreReused) {
  Controller controller = Make(Options(2));
  const Simulation run = Simulate(controller, {Constant(0.5, 0), Constant(1, 0)}, 1000);
  EXPECT_FALSE(run.orders[0][0].reuse);  // nothing is known yet
  for (std::size_t step = 1; step < 1000; ++step) ASSERT_TRUE(run.orders[step][0].reuse);
  EXPECT_EQ(run.switches(1), 0);  // the other layer's rows are unique
  const double seconds_of_first = run.seconds - 1000 - kHashSeconds * run.measured_dense(1);
  EXPECT_GT(1000 / seconds_of_first, 1.3);
  EXPECT_EQ(controller.kept(0), 0.5);
}

// Break-even of the caller's model, with the hysteresis: reuse begins below 0.95 r*, ends at r*.
TEST(Controller, TheCostModelDecidesWhereReusePays) {
  for (const auto& [kept, reused] : {std::pair{0.75, true}, {0.765, false}, {0.85, false}}) {
    Controller controller = Make(Options());
    Simulate(controller, {Constant(kept, 0)}, 500);
    EXPECT_EQ(controller.is_reusing(0), reused) << kept;
  }
  Controller controller = Make(Options());
  double kept = 0.7;
  const std::vector<SimulatedLayer> layers = {{.kept = [&](std::int64_t, double) { return kept; }}};
  Simulate(controller, layers, 200);
  EXPECT_TRUE(controller.is_reusing(0));
  kept = 0.79;  // would not begin here
  Simulate(controller, layers, 500);
  EXPECT_TRUE(controller.is_reusing(0));
  kept = 0.81;
  Simulate(controller, layers, 500);
  EXPECT_FALSE(controller.is_reusing(0));
  Controller never = Make(Options(), [](std::int64_t, double) { return Seconds{.dense = 1, .reuse = 2}; });
  Simulate(never, {Constant(0.01, 0)}, 500);
  EXPECT_FALSE(never.is_reusing(0));
}

// r near the break-even, and noisy: with the hysteresis at most one change of mode, without it many.
TEST(Controller, HysteresisDoesNotFlap) {
  const auto switches = [](double hysteresis, double center, double noise) {
    ControllerOptions options = Options();
    options.hysteresis = hysteresis;
    options.hash_every = 5;
    Controller controller = Make(options);
    std::mt19937_64 random(7);
    const auto kept = [&](std::int64_t, double) { return center + std::uniform_real_distribution<double>(-noise, noise)(random); };
    return Simulate(controller, {{.kept = kept}}, 20000).switches(0);
  };
  for (const double center : {0.97, 0.975, 0.98}) EXPECT_LE(switches(0.05, center * kBreakEven, 0.02 * kBreakEven), 1) << center;
  EXPECT_GT(switches(0, kBreakEven, 0.02 * kBreakEven), 100);
}

TEST(Controller, AnErrorAboveTheBudgetTightens) {
  Controller controller = Make(Options());
  const std::vector<SimulatedLayer> layers = {
      {.kept = [](std::int64_t, double) { return 0.3; }, .error = [](std::int64_t, double w) { return 0.3 * w; }}};
  const Simulation run = Simulate(controller, layers, 300);
  EXPECT_EQ(run.orders[0][0].width, 1);  // error 0.3, budget 0.2
  EXPECT_DOUBLE_EQ(run.orders[1][0].width, 0.7);
  EXPECT_DOUBLE_EQ(run.orders.back()[0].width, 0.7 * 0.7);  // 0.21 was still too much, 0.147 is not
  EXPECT_TRUE(controller.is_reusing(0));
  EXPECT_EQ(run.switches(0), 1);  // dense while the first width was over the budget
}

TEST(Controller, AnErrorThatStaysAboveTheBudgetEndsInDense) {
  ControllerOptions options = Options();
  options.hash_every = 10;
  Controller controller = Make(options);
  double error = 0.1;
  const std::vector<SimulatedLayer> layers = {
      {.kept = [](std::int64_t, double) { return 0.3; }, .error = [&](std::int64_t, double) { return error; }}};
  Simulate(controller, layers, 100);
  ASSERT_TRUE(controller.is_reusing(0));
  error = 0.5;
  Simulate(controller, layers, 1000);
  EXPECT_FALSE(controller.is_reusing(0));
  EXPECT_DOUBLE_EQ(controller.orders()[0].width, options.least_width);
  error = 0.1;  // it is still measured
  Simulate(controller, layers, 20);
  EXPECT_TRUE(controller.is_reusing(0));
}

TEST(Controller, ALossPlateauAdvancesThePhase) {
  ControllerOptions options = Options(2);
  options.patience = 100;
  Controller controller = Make(options);
  const std::vector<SimulatedLayer> layers(2, Constant(0.3, 0.04));
  Simulate(controller, layers, 500, [](std::int64_t step) { return 100 * std::pow(0.999, static_cast<double>(step)); });
  EXPECT_EQ(controller.phase(), 0);  // 0.1 % in every step, or nearly so, is an improvement within 100
  EXPECT_EQ(controller.budget(), 0.2);
  const double level = 100 * std::pow(0.999, 500);
  Simulate(controller, layers, 2000, [&](std::int64_t) { return level; });
  EXPECT_GE(controller.phase(), 15);  // one each 100 steps, after the average has come down
  EXPECT_LE(controller.phase(), 20);
  EXPECT_DOUBLE_EQ(controller.budget(), 0.2 * std::pow(0.5, controller.phase()));
  EXPECT_EQ(controller.orders()[1].width, options.least_width);
  EXPECT_FALSE(controller.is_reusing(0));  // 0.04 is over the budget since phase 3

  Controller once = Make(options);
  Simulate(once, layers, 101, [](std::int64_t) { return 5.0; });
  EXPECT_EQ(once.phase(), 1);
  EXPECT_EQ(once.orders()[0].width, 0.5);
}

TEST(Controller, ABadProbeCoolsDown) {
  ControllerOptions options = Options(2);
  options.probe_every = 100;
  Controller controller = Make(options);
  const Simulation run = Simulate(controller, {Constant(0.3, 0.1, 0.97), Constant(0.3, 0.1, 0.99)}, 400);
  // Layer 1 is probed in steps 100 and 300, layer 0 in step 200.
  for (std::size_t step = 0; step < 400; ++step) {
    EXPECT_EQ(run.orders[step][1].probe, step == 100 || step == 300) << step;
    EXPECT_EQ(run.orders[step][0].probe, step == 200) << step;
    EXPECT_EQ(run.orders[step][1].reuse, step > 0) << step;
  }
  EXPECT_TRUE(run.orders[200][0].reuse);
  for (std::size_t step = 201; step <= 250; ++step) {
    EXPECT_FALSE(run.orders[step][0].reuse || run.orders[step][0].measure) << step;
    EXPECT_EQ(run.orders[step][0].width, 0.5);
  }
  EXPECT_TRUE(run.orders[300][0].measure);  // the first time it is due
  EXPECT_TRUE(run.orders[301][0].reuse);
  EXPECT_EQ(run.orders[301][1].width, 1);
}

TEST(Controller, ACosineThatIsNoNumberIsABadOne) {
  ControllerOptions options = Options();
  options.probe_every = 100;
  Controller controller = Make(options);
  Simulate(controller, {Constant(0.3, 0.1, std::nan(""))}, 101);
  EXPECT_EQ(controller.orders()[0].width, 0.5);
  EXPECT_FALSE(controller.is_reusing(0));
}

// Once for each good probe, while the error is well below the budget.
TEST(Controller, GoodProbesLoosen) {
  ControllerOptions options = Options();
  options.probe_every = 100;
  for (const auto& [error, cosine, loosened] : {std::tuple{0.04, 0.999, true}, {0.06, 0.999, false}, {0.04, 0.99, false}}) {
    Controller controller = Make(options);
    const Simulation run = Simulate(controller, {Constant(0.3, error, cosine)}, 450);
    EXPECT_EQ(run.orders[100][0].width, 1);
    for (std::size_t step = 102; step <= 200; ++step) EXPECT_DOUBLE_EQ(run.orders[step][0].width, loosened ? 1.2 : 1.0);
    EXPECT_NEAR(run.orders.back()[0].width, loosened ? std::pow(1.2, 4) : 1.0, 1e-12);
  }
  options.most_width = 1.3;
  Controller controller = Make(options);
  Simulate(controller, {Constant(0.3, 0, 1)}, 2000);
  EXPECT_EQ(controller.orders()[0].width, 1.3);
}

// A dense layer whose rows would be alike in larger cells finds them.
TEST(Controller, ProbesOfADenseLayerFindTheWidthAtWhichReusePays) {
  ControllerOptions options = Options();
  options.probe_every = 100;
  Controller controller = Make(options);
  const std::vector<SimulatedLayer> layers = {{.kept = [](std::int64_t, double w) { return std::min(1.0, 1.5 / w); },
                                               .error = [](std::int64_t, double w) { return 0.01 * w; },
                                               .cosine = [](std::int64_t, double) { return 0.999; }}};
  Simulate(controller, layers, 200);
  EXPECT_FALSE(controller.is_reusing(0));
  Simulate(controller, layers, 3000);
  EXPECT_TRUE(controller.is_reusing(0));
  EXPECT_LT(controller.error(0), 0.2 / 4 * 1.21);
}

TEST(Controller, TheLastStepsAreExactOrDense) {
  ControllerOptions options{.layers = 2, .steps = 1000, .hash_every = 10, .probe_every = 10, .patience = 50};
  Controller controller = Make(options);
  const auto kept_of = [](double exact) { return [exact](std::int64_t, double w) { return w > 0 ? 0.3 : exact; }; };
  const auto error = [](std::int64_t, double w) { return w > 0 ? 0.01 : 0.0; };
  const Simulation run = Simulate(controller, {{.kept = kept_of(0.5), .error = error}, {.kept = kept_of(1), .error = error}}, 1000,
                                  [](std::int64_t) { return 1.0; });
  int reused_before = 0;
  for (std::size_t step = 0; step < 1000; ++step) {
    for (std::size_t layer = 0; layer < 2; ++layer) {
      const LayerOrder& order = run.orders[step][layer];
      if (step < 900) {
        EXPECT_GT(order.width, 0) << step;
        reused_before += order.reuse;
      } else {
        EXPECT_EQ(order.width, 0) << step;
        EXPECT_FALSE(order.probe) << step;
        EXPECT_TRUE(step <= 911 || order.reuse == (layer == 0)) << step;  // whose rows repeat
      }
    }
  }
  EXPECT_GT(reused_before, 100);
  EXPECT_TRUE(controller.final_phase());
}

TEST(Controller, WidthZeroIsExactAllAlong) {
  ControllerOptions options = Options();
  options.first_width = 0;
  options.probe_every = 100, options.patience = 100;
  Controller controller = Make(options);
  // Rows with a NaN have no error that is a number; equal rows lose nothing all the same.
  const Simulation run = Simulate(controller, {Constant(0.4, std::nan(""), 0)}, 1000, [](std::int64_t) { return 1.0; });
  for (std::size_t step = 1; step < 1000; ++step) {
    ASSERT_TRUE(run.orders[step][0].reuse);
    ASSERT_EQ(run.orders[step][0].width, 0);
    ASSERT_FALSE(run.orders[step][0].probe);
  }
}

TEST(Controller, WhatIsNotFiniteMakesALayerDense) {
  for (const auto& [kept, error] : {std::pair{std::nan(""), 0.1}, {0.3, std::nan("")}, {0.3, std::numeric_limits<double>::infinity()}}) {
    Controller controller = Make(Options());
    Simulate(controller, {Constant(0.3, 0.1)}, 50);
    ASSERT_TRUE(controller.is_reusing(0));
    Simulate(controller, {Constant(kept, error)}, 1);
    EXPECT_FALSE(controller.is_reusing(0));
    EXPECT_DOUBLE_EQ(controller.orders()[0].width, 0.7);
    Simulate(controller, {Constant(0.3, 0.1)}, 150, [](std::int64_t step) { return step % 2 == 0 ? std::nan("") : FallingLoss(step); });
    EXPECT_TRUE(controller.is_reusing(0));
    EXPECT_EQ(controller.phase(), 0);
    EXPECT_TRUE(std::isfinite(controller.kept(0)) && std::isfinite(controller.error(0)));
  }
}

// A step that shows nothing of a reusing layer (another stage's turn, an evaluation) changes nothing.
TEST(Controller, WhatIsNotMeasuredChangesNothing) {
  Controller controller = Make(Options());
  Simulate(controller, {Constant(0.3, 0.1)}, 50);
  const double kept = controller.kept(0);
  for (int i = 0; i < 20; ++i) controller.Decide({.loss = 1, .layers = {{}}});
  EXPECT_TRUE(controller.is_reusing(0));
  EXPECT_EQ(controller.kept(0), kept);
}

TEST(Controller, ADecisionAllocatesNothing) {
  ControllerOptions options = Options(8);
  options.probe_every = 7, options.patience = 9, options.steps = 300;
  Controller controller = Make(options);
  const std::vector<SimulatedLayer> layers(8, Constant(0.5, 0.1));
  const Observation seen = Observe(layers, controller.orders(), 0, 1);
  const std::int64_t before = testing::AllocationsOfThisThread();
  for (int step = 0; step < 300; ++step) controller.Decide(seen);
  EXPECT_EQ(testing::AllocationsOfThisThread(), before);
}

TEST(Controller, OptionsOutOfRangeAreRefused) {
  const auto mistake = [](auto change) {
    ControllerOptions options = Options();
    change(options);
    const Status status = Controller::Create(options, LinearCost).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(mistake([](auto& o) { o.layers = 0; }), HasSubstr("reuse.layers = 0 is outside 1 .."));
  EXPECT_THAT(mistake([](auto& o) { o.steps = 0; }), HasSubstr("reuse.steps"));
  EXPECT_THAT(mistake([](auto& o) { o.budget = 1.5; }), HasSubstr("reuse.budget = 1.5"));
  EXPECT_THAT(mistake([](auto& o) { o.first_width = 100; }), HasSubstr("reuse.first_width = 100"));
  EXPECT_THAT(mistake([](auto& o) { o.hysteresis = std::nan(""); }), HasSubstr("reuse.hysteresis"));
  EXPECT_THAT(mistake([](auto& o) { o.hash_every = 0; }), HasSubstr("reuse.hash_every"));
  EXPECT_THAT(mistake([](auto& o) { o.loss_smoothing = 0; }), HasSubstr("reuse.loss_smoothing"));
}

}  // namespace
}  // namespace lycia::reuse
