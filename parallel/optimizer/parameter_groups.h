// Replica groups belong to parameters, not to stages.
//
// A parameter is its global name. Which stages use it follows from the model, which workers hold these stages from the schedule; all its
// holders form its group. Parameters with the same stages lie in one flat buffer, which is reduced, updated and gathered as a whole; each
// rank of the group owns one contiguous shard of it (optimizer states exist for the owned shard only).
#ifndef LYCIA_PARALLEL_OPTIMIZER_PARAMETER_GROUPS_H_
#define LYCIA_PARALLEL_OPTIMIZER_PARAMETER_GROUPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/optimizer/squared_norm.h"
#include "parallel/layer/parameter.h"
#include "runtime/core/status.h"

namespace lycia {

// The squared norm of a gradient is summed in f64 over blocks of consecutive elements of one tensor (docs/numerics.md).
inline constexpr std::int64_t kNormBlock = kSquaredNormBlock;

struct PlacedParameter {
  ParameterSpec spec;       // of its first use
  std::int64_t offset = 0;  // first element in the group's flat buffer; a multiple of 16 elements
  std::int64_t elements = 0;
  std::int64_t first_block = 0;  // index of its first norm block among those of the whole model, in order of names
};

struct ParameterGroup {
  std::vector<int> stages;                  // that use all of these parameters; a sync set of the schedule
  std::vector<PlacedParameter> parameters;  // in order of names
  std::int64_t elements = 0;                // of the flat buffer, padding included
};

struct ParameterGroups {
  std::vector<ParameterGroup> groups;  // {0}, ..., {D-1}, then the shared ones by stage list: the order of a schedule's sync sets
  std::int64_t num_norm_blocks = 0;    // of the whole model
  std::int64_t num_parameters = 0;     // elements, each parameter counted once
};

// of_stage[s]: every parameter that stage s declares. There is a group {s} for every stage, empty if all its parameters are shared.
// InvalidArgument when a name is declared with two shapes, initial values or decays.
StatusOr<ParameterGroups> DeriveParameterGroups(const std::vector<std::vector<ParameterSpec>>& of_stage);

// Cuts a group's flat buffer among `ranks`: ranks + 1 offsets, each at the start of a norm block (so that no block has two owners) or at
// the end, as even as that allows. A ShardPolicy::kWholeTensor parameter is never cut.
std::vector<std::int64_t> ShardOffsets(const ParameterGroup& group, int ranks);

// What [begin, end) of a flat buffer holds of each parameter.
struct Segment {
  const PlacedParameter* parameter = nullptr;
  std::int64_t begin = 0, end = 0;  // elements of the parameter
};
std::vector<Segment> SegmentsOf(const ParameterGroup& group, std::int64_t begin, std::int64_t end);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_OPTIMIZER_PARAMETER_GROUPS_H_
