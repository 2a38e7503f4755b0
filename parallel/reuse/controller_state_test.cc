// A run that is interrupted goes on as if it had not been; a state that is not one is refused.
#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/reuse/controller.h"
#include "parallel/reuse/simulated_layers_for_test.h"

namespace lycia::reuse {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kLayers = 5, kSteps = 600;

ControllerOptions Options() {
  return {.layers = kLayers, .steps = kSteps, .hash_every = 11, .probe_every = 7, .patience = 60, .cooldown_steps = 40};
}

// Anything may happen, by step and layer only.
Observation Wild(std::span<const LayerOrder> orders, std::int64_t step) {
  std::mt19937_64 random(static_cast<std::uint64_t>(step) * 1000003);
  const auto uniform = [&](double least, double most) { return std::uniform_real_distribution<double>(least, most)(random); };
  Observation seen{.loss = 3 / (1 + 0.01 * std::min<double>(static_cast<double>(step), 150)) + uniform(-0.05, 0.05)};
  for (const LayerOrder& order : orders) {
    LayerObservation layer{.kept = uniform(0.3, 1), .error = uniform(0, 0.25) * order.width, .cosine = uniform(0.975, 1)};
    if (uniform(0, 1) < 0.01) layer.error = std::nan("");
    layer.measured = (order.reuse || order.measure) && uniform(0, 1) < 0.95;
    layer.probed = order.probe;
    seen.layers.push_back(layer);
  }
  return seen;
}

std::vector<double> StateOf(const Controller& controller) {
  std::vector<double> state(static_cast<std::size_t>(Controller::StateSize(kLayers)));
  controller.Save(state);
  return state;
}

bool SameBits(const std::vector<double>& a, const std::vector<double>& b) {
  return std::ranges::equal(
      a, b, {}, [](double x) { return std::bit_cast<std::uint64_t>(x); }, [](double x) { return std::bit_cast<std::uint64_t>(x); });
}

// Whatever happens, what is ordered makes sense; and each rule has been at work, or the test of resuming would show little.
TEST(ControllerState, OrdersAlwaysMakeSense) {
  const ControllerOptions options = Options();
  Controller controller = Make(options);
  int reused = 0, measured = 0, probes = 0, cooled = 0, widths = 0;
  std::vector<LayerOrder> before;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    int probes_of_step = 0;
    for (std::size_t i = 0; i < kLayers; ++i) {
      const LayerOrder& order = controller.orders()[i];
      ASSERT_FALSE(order.reuse && order.measure);
      ASSERT_TRUE(order.width == 0 || (order.width >= options.least_width && order.width <= options.most_width)) << order.width;
      ASSERT_EQ(order.width == 0, step >= 540);
      probes_of_step += order.probe;
      reused += order.reuse, measured += order.measure;
      if (!before.empty())
        widths += order.width != before[i].width, cooled += before[i].probe && !order.reuse && order.width < before[i].width;
    }
    ASSERT_LE(probes_of_step, 1);
    probes += probes_of_step;
    before.assign(controller.orders().begin(), controller.orders().end());
    controller.Decide(Wild(controller.orders(), step));
  }
  EXPECT_GT(reused, 100);
  EXPECT_GT(measured, 50);
  EXPECT_GT(probes, 30);
  EXPECT_GT(cooled, 3);
  EXPECT_GT(widths, 30);
  EXPECT_GT(controller.phase(), 0);
}

TEST(ControllerState, AResumedRunDecidesTheSame) {
  Controller whole = Make(Options());
  std::vector<std::vector<double>> states;
  std::vector<std::vector<LayerOrder>> orders;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    states.push_back(StateOf(whole));
    orders.emplace_back(whole.orders().begin(), whole.orders().end());
    whole.Decide(Wild(whole.orders(), step));
  }
  const std::vector<double> last = StateOf(whole);
  for (std::int64_t from = 0; from < kSteps; from += 13) {
    Controller resumed = Make(Options());
    // A controller with a past of its own, all of which the state replaces.
    for (std::int64_t step = 0; step < 50; ++step) resumed.Decide(Wild(resumed.orders(), step + 5000));
    const Status restored = resumed.Restore(states[static_cast<std::size_t>(from)]);
    ASSERT_TRUE(restored.ok()) << restored;
    ASSERT_EQ(resumed.next_step(), from);
    for (std::int64_t step = from; step < kSteps; ++step) {
      ASSERT_TRUE(std::ranges::equal(resumed.orders(), orders[static_cast<std::size_t>(step)])) << "from " << from << " at " << step;
      resumed.Decide(Wild(resumed.orders(), step));
    }
    ASSERT_TRUE(SameBits(StateOf(resumed), last)) << from;
    ASSERT_EQ(resumed.Fingerprint(), whole.Fingerprint());
  }
}

TEST(ControllerState, WhatIsNoStateIsRefusedAndChangesNothing) {
  Controller controller = Make(Options());
  for (std::int64_t step = 0; step < 100; ++step) controller.Decide(Wild(controller.orders(), step));
  const std::vector<double> good = StateOf(controller);
  const auto mistake = [&](std::vector<double> state) {
    const Status status = controller.Restore(state);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_TRUE(SameBits(StateOf(controller), good));
    return std::string(status.message());
  };
  const auto with = [&](std::size_t at, double number) {
    std::vector<double> state = good;
    state[at] = number;
    return state;
  };
  EXPECT_THAT(mistake({}), HasSubstr("has 0 numbers"));
  EXPECT_THAT(mistake(std::vector<double>(good.begin(), good.end() - 1)), HasSubstr("this model needs 49 numbers"));
  EXPECT_THAT(mistake(with(0, 2)), HasSubstr("format 2"));
  EXPECT_THAT(mistake(with(1, 6)), HasSubstr("layers 6"));
  for (std::size_t at = 2; at < good.size(); ++at)
    EXPECT_THAT(mistake(with(at, std::nan(""))), HasSubstr(StrCat("number ", at, " is nan"))) << at;
  for (const std::size_t at : {2, 3, 8, 16}) EXPECT_THAT(mistake(with(at, 0.5)), HasSubstr("damaged")) << at;
  for (const std::size_t at : {5, 9, 11, 14}) EXPECT_THAT(mistake(with(at, 2)), HasSubstr("damaged")) << at;
  EXPECT_THAT(mistake(with(10, -1)), HasSubstr("damaged"));
  EXPECT_TRUE(controller.Restore(good).ok());
}

}  // namespace
}  // namespace lycia::reuse
