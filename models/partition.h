// Partition: cuts a list of layers into stages of consecutive layers.
#ifndef LYCIA_MODELS_PARTITION_H_
#define LYCIA_MODELS_PARTITION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

// stages + 1 cuts: stage s is layers [cuts[s], cuts[s+1]), at least one each. The dearest stage is as cheap as possible; among such cuts
// the sum of squared stage costs is smallest, so that the rest is even too. Costs are any unit, >= 0. InvalidArgument: fewer layers than
// stages.
StatusOr<std::vector<int>> PartitionByCost(std::span<const double> costs, int stages);

// The same from a list of layer counts; they must be positive and add up.
StatusOr<std::vector<int>> PartitionByCounts(std::span<const std::int64_t> counts, int layers, int stages);

}  // namespace lycia

#endif  // LYCIA_MODELS_PARTITION_H_
