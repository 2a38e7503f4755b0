// Layers that are formulas: what their rows would show at a width, and what a step would take.
#ifndef LYCIA_PARALLEL_REUSE_SIMULATED_LAYERS_FOR_TEST_H_
#define LYCIA_PARALLEL_REUSE_SIMULATED_LAYERS_FOR_TEST_H_

#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/reuse/controller.h"

namespace lycia::reuse {

// Hashing takes a fifth of a dense step, so that break-even is at kept = 0.8.
inline constexpr double kHashSeconds = 0.2, kBreakEven = 0.8;
inline Seconds LinearCost(std::int64_t, double kept) { return {.dense = 1, .reuse = kHashSeconds + kept}; }

// By step and width.
struct SimulatedLayer {
  std::function<double(std::int64_t, double)> kept = [](std::int64_t, double) { return 1.0; };
  std::function<double(std::int64_t, double)> error = [](std::int64_t, double) { return 0.0; };
  std::function<double(std::int64_t, double)> cosine = [](std::int64_t, double) { return 0.99; };  // neither bad nor good
};

inline SimulatedLayer Constant(double kept, double error, double cosine = 0.99) {
  return {[=](std::int64_t, double) { return kept; }, [=](std::int64_t, double) { return error; },
          [=](std::int64_t, double) { return cosine; }};
}

// A loss that never stops falling, so that no phase ends.
inline double FallingLoss(std::int64_t step) { return 1e6 / (1.0 + static_cast<double>(step)); }

struct Simulation {
  std::vector<std::vector<LayerOrder>> orders;  // [step][layer]
  double dense_seconds = 0, seconds = 0;

  int switches(std::size_t layer) const {
    int count = 0;
    for (std::size_t step = 1; step < orders.size(); ++step) count += orders[step][layer].reuse != orders[step - 1][layer].reuse;
    return count;
  }
  int measured_dense(std::size_t layer) const {
    int count = 0;
    for (const auto& step : orders) count += step[layer].measure;
    return count;
  }
};

// What a step of the orders shows.
inline Observation Observe(const std::vector<SimulatedLayer>& layers, std::span<const LayerOrder> orders, std::int64_t step, double loss) {
  Observation seen{.loss = loss};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerOrder& order = orders[i];
    LayerObservation layer{.measured = order.reuse || order.measure, .probed = order.probe};
    if (layer.measured) layer.kept = layers[i].kept(step, order.width), layer.error = layers[i].error(step, order.width);
    if (layer.probed) layer.cosine = layers[i].cosine(step, order.width);
    seen.layers.push_back(layer);
  }
  return seen;
}

inline Simulation Simulate(Controller& controller, const std::vector<SimulatedLayer>& layers, std::int64_t steps,
                           const std::function<double(std::int64_t)>& loss = FallingLoss) {
  Simulation run;
  for (std::int64_t i = 0; i < steps; ++i) {
    const std::int64_t step = controller.next_step();
    run.orders.emplace_back(controller.orders().begin(), controller.orders().end());
    const Observation seen = Observe(layers, controller.orders(), step, loss(step));
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const LayerOrder& order = run.orders.back()[l];
      const double reuse = kHashSeconds + seen.layers[l].kept;
      run.dense_seconds += 1;
      run.seconds += order.probe ? 1 + reuse : order.reuse ? reuse : order.measure ? 1 + kHashSeconds : 1;
    }
    controller.Decide(seen);
  }
  return run;
}

inline Controller Make(const ControllerOptions& options, CostModel cost = LinearCost) {
  StatusOr<Controller> controller = Controller::Create(options, std::move(cost));
  EXPECT_TRUE(controller.ok()) << controller.status();
  return *std::move(controller);
}

}  // namespace lycia::reuse

#endif  // LYCIA_PARALLEL_REUSE_SIMULATED_LAYERS_FOR_TEST_H_
