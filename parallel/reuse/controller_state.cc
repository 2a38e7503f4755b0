// A controller as a flat array of numbers. Counts are exact in f64 up to 2^53.
#include <bit>
#include <cmath>

#include "parallel/reuse/controller.h"
#include "runtime/core/check.h"

namespace lycia::reuse {
namespace {

constexpr double kFormat = 1;  // of the array; another one when numbers are added
constexpr std::int64_t kHead = 9, kOfLayer = 8;

bool IsCount(double number) { return number >= 0 && number <= 0x1p53 && number == std::floor(number); }
bool IsFlag(double number) { return number == 0 || number == 1; }

std::uint64_t Mixed(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0x9E3779B97F4A7C15u;  // golden ratio
  return hash ^ (hash >> 29);
}

}  // namespace

template <typename Visit>
void Controller::ForEachNumber(const Visit& visit) const {
  visit(kFormat);
  visit(static_cast<double>(options_.layers));
  visit(static_cast<double>(next_step_));
  visit(static_cast<double>(phase_));
  visit(budget_);
  visit(loss_known_ ? 1.0 : 0.0);
  visit(loss_);
  visit(best_loss_);
  visit(static_cast<double>(steps_since_best_));
  for (const Layer& layer : layers_) {
    visit(layer.reuse ? 1.0 : 0.0);
    visit(layer.width);
    visit(layer.known ? 1.0 : 0.0);
    visit(layer.kept);
    visit(layer.error);
    visit(layer.probed ? 1.0 : 0.0);
    visit(layer.cosine);
    visit(static_cast<double>(layer.dense_until));
  }
}

std::int64_t Controller::StateSize(std::int64_t layers) { return kHead + kOfLayer * layers; }

void Controller::Save(std::span<double> state) const {
  LYCIA_CHECK_EQ(static_cast<std::int64_t>(state.size()), StateSize(options_.layers));
  double* to = state.data();
  ForEachNumber([&](double number) { *to++ = number; });
}

std::uint64_t Controller::Fingerprint() const {
  std::uint64_t hash = 0xCBF29CE484222325u;
  ForEachNumber([&](double number) { hash = Mixed(hash, std::bit_cast<std::uint64_t>(number)); });
  return hash;
}

Status Controller::Restore(std::span<const double> state) {
  const std::int64_t size = StateSize(options_.layers);
  if (static_cast<std::int64_t>(state.size()) != size || state[0] != kFormat || state[1] != static_cast<double>(options_.layers)) {
    return InvalidArgument("the saved state of computation reuse has ", state.size(), " numbers, format ", state.empty() ? 0.0 : state[0],
                           ", layers ", state.size() < 2 ? 0.0 : state[1], "; this model needs ", size, " numbers, format ", kFormat,
                           ", layers ", options_.layers, ": continue with the model and the version that wrote it");
  }
  const auto damaged = [](std::int64_t at, double number) {
    return InvalidArgument("the saved state of computation reuse is damaged: number ", at, " is ", number,
                           "; continue from another checkpoint");
  };
  const auto fits = [&](std::int64_t at) {
    const double number = state[static_cast<std::size_t>(at)];
    const std::int64_t field = at < kHead ? at : kHead + (at - kHead) % kOfLayer;
    switch (field - kHead) {
      case 0:
      case 2:
      case 5:
        return IsFlag(number);
      case 1:
        return number >= 0 && std::isfinite(number);
      case 7:
        return IsCount(number);
      default:
        break;
    }
    if (field == 5) return IsFlag(number);
    return field == 2 || field == 3 || field == 8 ? IsCount(number) : std::isfinite(number);
  };
  for (std::int64_t at = 0; at < size; ++at) {
    if (!fits(at)) return damaged(at, state[static_cast<std::size_t>(at)]);
  }
  const double* from = state.data() + 2;
  const auto flag = [&] { return *from++ == 1; };
  const auto count = [&] { return static_cast<std::int64_t>(*from++); };
  next_step_ = count();
  phase_ = static_cast<int>(count());
  budget_ = *from++;
  loss_known_ = flag();
  loss_ = *from++;
  best_loss_ = *from++;
  steps_since_best_ = count();
  for (Layer& layer : layers_) {
    layer.reuse = flag();
    layer.width = *from++;
    layer.known = flag();
    layer.kept = *from++;
    layer.error = *from++;
    layer.probed = flag();
    layer.cosine = *from++;
    layer.dense_until = count();
  }
  MakeOrders();
  return OkStatus();
}

}  // namespace lycia::reuse
