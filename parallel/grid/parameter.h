// GridParameter: which elements of a model's tensor this rank computes with, and which of them it owns.
//
// The ranks of a group compute with one block of the tensor (some rows × some columns of it); each owns a flat part of that block, so that
// every parameter is cut as many ways as there are ranks and the squared gradient norm is a plain sum over ranks.
#ifndef LYCIA_PARALLEL_GRID_PARAMETER_H_
#define LYCIA_PARALLEL_GRID_PARAMETER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/grid/block.h"
#include "parallel/grid/grid.h"
#include "parallel/layer/parameter.h"
#include "parallel/mesh/sharding.h"
#include "runtime/device/device.h"

namespace lycia {

// How a parameter gets from its owners to where it is used, and its gradient back.
enum class Exchange : std::uint8_t {
  kEachUse,   // the layer gathers the block when it needs it, and reduces each micro-batch's gradient: it sees the owned part
  kEachStep,  // StepExchange (step_exchange.h) does both once a step: the layer sees the block, and adds to a partial gradient of it
  kFused,     // the same, in one message for all small tensors of a group: biases, norms, positions
  // Only a gradient: one layer of this rank adds its summand of the block, another adds its own, reduces the sum and zeroes it.
  kHandOver,
};

struct GridParameter {
  std::string name;    // unique on the rank; the tensor's own where the tensor is one parameter
  std::string tensor;  // the tensor's name, which is that of its random stream
  Shape tensor_shape;
  Block block;
  GridGroup group = GridGroup::kZ;  // ranks with the same block
  Exchange exchange = Exchange::kEachUse;
  Sharding held;      // as owned
  Sharding gradient;  // as the layer leaves it; partial where StepExchange or another layer still adds
  Initial initial = Initial::kZero;
  double std = 0;
  bool decay = false;
  int use = 0;  // of a tied parameter

  // Elements [offsets[p], offsets[p + 1]) of the block belong to position p of the group.
  std::vector<std::int64_t> Offsets(const Grid& grid) const { return BalancedOffsets(block.elements(), grid.size(group)); }
  IndexRange Owned(const Grid& grid) const;
  std::vector<ElementRun> OwnedRuns(const Grid& grid) const;
  // What a layer declares: the owned part [n], or the block.
  ParameterSpec LayerSpec(const Grid& grid) const;
};

// Initial values of elements [begin, end) of a block, by the tensor's own indices (docs/numerics.md); padding is zero.
struct FillInitialArgs {
  const Block& block;
  std::int64_t begin = 0, end = 0;
  std::string tensor;  // whose random stream it is
  Initial initial = Initial::kZero;
  double std = 0;
  std::uint64_t seed = 0;
  Tensor out;  // [end - begin]
};
void FillInitial(Stream& stream, const FillInitialArgs& args);

// The owned part's initial values (docs/numerics.md), by the tensor's own indices; padding is zero. `owned` has Owned().count elements.
void Initialise(Stream& stream, const GridParameter& parameter, const Grid& grid, std::uint64_t seed, const Tensor& owned);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_PARAMETER_H_
