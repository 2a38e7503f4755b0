#include "parallel/reuse/observation.h"

#include <cmath>
#include <limits>

#include "runtime/core/check.h"

namespace lycia::reuse {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kNumbers = 5;  // of a layer, behind the loss

// NaN has no place in a maximum: it would win or lose by the order of the ranks.
double Worst(double value) { return std::isfinite(value) ? value : kInfinity; }

}  // namespace

std::int64_t PackedSize(std::int64_t layers) { return 1 + static_cast<std::int64_t>(kNumbers) * layers; }

void PackForMaximum(const Observation& observation, std::span<double> packed) {
  LYCIA_CHECK_EQ(packed.size(), 1 + kNumbers * observation.layers.size());
  packed[0] = Worst(observation.loss);
  double* to = packed.data() + 1;
  for (const LayerObservation& layer : observation.layers) {
    *to++ = layer.measured ? 1 : 0;
    *to++ = layer.measured ? Worst(layer.kept) : -kInfinity;
    *to++ = layer.measured ? Worst(layer.error) : -kInfinity;
    *to++ = layer.probed ? 1 : 0;
    *to++ = layer.probed ? Worst(-layer.cosine) : -kInfinity;
  }
}

void UnpackMaximum(std::span<const double> packed, Observation& observation) {
  LYCIA_CHECK_EQ(packed.size(), 1 + kNumbers * observation.layers.size());
  observation.loss = packed[0];
  const double* from = packed.data() + 1;
  for (LayerObservation& layer : observation.layers) {
    layer = {};
    layer.measured = from[0] > 0;
    if (layer.measured) layer.kept = from[1], layer.error = from[2];
    layer.probed = from[3] > 0;
    if (layer.probed) layer.cosine = -from[4];
    from += kNumbers;
  }
}

}  // namespace lycia::reuse
