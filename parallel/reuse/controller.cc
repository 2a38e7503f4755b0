#include "parallel/reuse/controller.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/core/check.h"

namespace lycia::reuse {
namespace {

constexpr double kTighten = 0.7, kLoosen = 1.2, kHalve = 0.5;
constexpr double kLeastCosine = 0.98, kGoodCosine = 0.995;
constexpr double kImprovement = 1e-3;  // of the averaged loss, that counts

Status CheckRange(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return OkStatus();
  return InvalidArgument("reuse.", name, " = ", value, " is outside ", least, " .. ", most);
}

}  // namespace

Status Validate(const ControllerOptions& o) {
  constexpr double kMany = 1e15;
  LYCIA_RETURN_IF_ERROR(CheckRange("layers", static_cast<double>(o.layers), 1, 1e6));
  LYCIA_RETURN_IF_ERROR(CheckRange("steps", static_cast<double>(o.steps), 1, kMany));
  LYCIA_RETURN_IF_ERROR(CheckRange("budget", o.budget, 0, 1));
  LYCIA_RETURN_IF_ERROR(CheckRange("least_width", o.least_width, 1e-30, 1e30));
  LYCIA_RETURN_IF_ERROR(CheckRange("most_width", o.most_width, o.least_width, 1e30));
  if (o.first_width != 0) LYCIA_RETURN_IF_ERROR(CheckRange("first_width", o.first_width, o.least_width, o.most_width));
  LYCIA_RETURN_IF_ERROR(CheckRange("hysteresis", o.hysteresis, 0, 0.5));
  LYCIA_RETURN_IF_ERROR(CheckRange("hash_every", static_cast<double>(o.hash_every), 1, kMany));
  LYCIA_RETURN_IF_ERROR(CheckRange("probe_every", static_cast<double>(o.probe_every), 1, kMany));
  LYCIA_RETURN_IF_ERROR(CheckRange("patience", static_cast<double>(o.patience), 1, kMany));
  LYCIA_RETURN_IF_ERROR(CheckRange("cooldown_steps", static_cast<double>(o.cooldown_steps), 0, kMany));
  LYCIA_RETURN_IF_ERROR(CheckRange("final_fraction", o.final_fraction, 0, 1));
  LYCIA_RETURN_IF_ERROR(CheckRange("layer_smoothing", o.layer_smoothing, 1e-6, 1));
  return CheckRange("loss_smoothing", o.loss_smoothing, 1e-6, 1);
}

StatusOr<Controller> Controller::Create(const ControllerOptions& options, CostModel cost) {
  LYCIA_RETURN_IF_ERROR(Validate(options));
  LYCIA_CHECK(cost != nullptr);
  return Controller(options, std::move(cost));
}

Controller::Controller(const ControllerOptions& options, CostModel cost)
    : options_(options), cost_(std::move(cost)), budget_(options.budget) {
  layers_.resize(static_cast<std::size_t>(options.layers));
  orders_.resize(layers_.size());
  for (Layer& layer : layers_) layer.width = options.first_width;
  if (IsFinal(0)) BeginFinalPhase();
  MakeOrders();
}

void Controller::Decide(const Observation& reduced) {
  LYCIA_CHECK_EQ(reduced.layers.size(), layers_.size());
  const bool was_final = IsFinal(next_step_);
  for (std::int64_t i = 0; i < options_.layers; ++i) {
    const LayerObservation& seen = reduced.layers[static_cast<std::size_t>(i)];
    if (seen.probed && !FollowProbe(layers_[static_cast<std::size_t>(i)], seen.cosine)) continue;
    if (seen.measured) FollowLayer(i, seen);
  }
  if (!was_final) FollowLoss(reduced.loss);
  ++next_step_;
  if (IsFinal(next_step_) && !was_final) BeginFinalPhase();
  for (std::int64_t i = 0; i < options_.layers; ++i) Dispatch(i);
  MakeOrders();
}

void Controller::BeginFinalPhase() {
  for (Layer& layer : layers_) {  // what was seen at other widths says nothing of equal rows
    SetWidth(layer, 0);
    layer.reuse = false;
    layer.dense_until = 0;
  }
}

bool Controller::IsFinal(std::int64_t step) const {
  return static_cast<double>(step) >= static_cast<double>(options_.steps) * (1 - options_.final_fraction);
}

void Controller::FollowLayer(std::int64_t index, const LayerObservation& seen) {
  Layer& layer = layers_[static_cast<std::size_t>(index)];
  const double error = layer.width == 0 ? 0 : seen.error;  // equal rows lose nothing
  if (!std::isfinite(seen.kept) || !std::isfinite(error)) {
    SetWidth(layer, layer.width * kTighten);
    layer.reuse = false;
    return;
  }
  const auto follow = [&](double& average, double value) {
    // A dense layer's last measurement is many steps old.
    average = layer.known && layer.reuse ? average + options_.layer_smoothing * (value - average) : value;
  };
  follow(layer.kept, seen.kept);
  follow(layer.error, error);
  layer.known = true;
  if (layer.width == 0) return;
  if (layer.error > budget_) {
    if (layer.width > options_.least_width) SetWidth(layer, layer.width * kTighten);
  } else if (layer.error < budget_ / 4 && layer.probed && layer.cosine > kGoodCosine && layer.width < options_.most_width) {
    SetWidth(layer, layer.width * kLoosen);
  }
}

// ADR's rule, for the sign that a loss no longer falls because of what reuse does to it.
void Controller::FollowLoss(double loss) {
  if (!std::isfinite(loss)) return;  // the trainer's affair
  loss_ = loss_known_ ? loss_ + options_.loss_smoothing * (loss - loss_) : loss;
  if (!loss_known_ || loss_ < best_loss_ - kImprovement * std::abs(best_loss_)) {
    best_loss_ = loss_;
    steps_since_best_ = 0;
  } else if (++steps_since_best_ >= options_.patience) {
    ++phase_;
    budget_ *= kHalve;
    best_loss_ = loss_;
    steps_since_best_ = 0;
    for (Layer& layer : layers_) SetWidth(layer, layer.width * kHalve);
  }
  loss_known_ = true;
}

bool Controller::FollowProbe(Layer& layer, double cosine) {
  if (layer.width == 0) return true;
  if (cosine >= kLeastCosine) {
    layer.probed = true;
    layer.cosine = cosine;
    return true;
  }
  SetWidth(layer, layer.width * kHalve);
  layer.dense_until = next_step_ + 1 + options_.cooldown_steps;
  return false;
}

// What was measured at another width is of the past.
void Controller::SetWidth(Layer& layer, double width) const {
  if (width > 0) width = std::clamp(width, options_.least_width, options_.most_width);
  layer.width = width;
  layer.known = layer.probed = false;
}

void Controller::Dispatch(std::int64_t index) {
  Layer& layer = layers_[static_cast<std::size_t>(index)];
  if (next_step_ < layer.dense_until) {
    layer.reuse = false;
  } else if (layer.known) {
    const bool accurate = layer.error <= budget_ || layer.width == 0;
    const double kept = layer.reuse ? layer.kept : layer.kept / (1 - options_.hysteresis);
    const Seconds seconds = cost_(index, kept);
    layer.reuse = accurate && seconds.reuse < seconds.dense;
  }  // else: as before, until it is measured
}

void Controller::MakeOrders() {
  const std::int64_t probed = next_step_ > 0 && next_step_ % options_.probe_every == 0 && !IsFinal(next_step_)
                                  ? next_step_ / options_.probe_every % options_.layers
                                  : -1;
  for (std::int64_t i = 0; i < options_.layers; ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    LayerOrder& order = orders_[static_cast<std::size_t>(i)];
    order = {.reuse = layer.reuse, .width = layer.width, .probe = i == probed && layer.width > 0 && next_step_ >= layer.dense_until};
    const bool due = next_step_ == 0 || (next_step_ + i) % options_.hash_every == 0;
    order.measure = !layer.reuse && (order.probe || (due && next_step_ >= layer.dense_until));
  }
}

}  // namespace lycia::reuse
