// GridWeights: the weights of one product. Each is a block of which this rank owns a flat part: gathered before it is used, while others
// compute, and its gradient reduce-scattered after, while others compute (parallel/layer/transfer.h).
#ifndef LYCIA_PARALLEL_GRID_WEIGHTS_H_
#define LYCIA_PARALLEL_GRID_WEIGHTS_H_

#include <array>
#include <vector>

#include "parallel/grid/grid.h"
#include "parallel/grid/parameter.h"
#include "parallel/layer/layer.h"

namespace lycia {

// What stays gathered until the backward needs it; the rest is gathered again. Memory is declared in the layer's plan either way.
struct GridPolicy {
  bool cache_inputs = true;            // X, until the weight gradient: times the size of N instead of this rank's part
  bool cache_weights = false;          // W, until the input gradient: for every micro-batch in flight
  bool cache_output_gradients = true;  // dY, between input and weight gradient: costs memory only where a schedule splits the backward
  // Collectives are under way while products are computed. false: each is waited for where it is started. Same results, same bytes.
  bool overlap = true;
};

// A weight as a product sees it.
struct GridWeight {
  GridParameter parameter;
  ParameterHandle weight;
  ParameterHandle gradient;
  bool hand_over = false;  // the gradient is left as a partial block (Exchange::kHandOver)
};

class GridWeights {
 public:
  static constexpr std::size_t kMost = 2;
  using Blocks = std::array<Tensor, kMost>;
  struct Args {
    const Grid* grid = nullptr;
    GridPolicy policy;
    std::vector<GridWeight> weights;
    bool backward = true;  // the input gradient uses them, too
  };
  GridWeights() = default;
  GridWeights(const Args& args, LayerPlan& plan);

  // Index -1: nothing is gathered or sent.
  TransferHandle transfer() const { return transfer_; }
  void Fetch(const LayerContext& context, TransferPlace& place) const;

  // Once for each use, before what follows. nullptr: that use moves nothing.
  TransferPlace* BeginForward(const LayerContext& context) const { return Begin(context, spec_.forward); }
  TransferPlace* BeginBackward(const LayerContext& context) const { return Begin(context, spec_.backward || spec_.returns); }
  TransferPlace* BeginBackwardInput(const LayerContext& context) const { return Begin(context, spec_.backward); }
  TransferPlace* BeginBackwardWeight(const LayerContext& context) const { return Begin(context, spec_.returns); }

  // Whole blocks, [elements of the block].
  Blocks Whole(const LayerContext& context, const TransferPlace* place) const;
  // Where the product adds gradients of whole blocks. What will be sent is zeroed, in the place that held the weights.
  Blocks Gradients(const LayerContext& context, const TransferPlace* place) const;
  void Send(const LayerContext& context, const Blocks& gradients, TransferPlace* place) const;

 private:
  struct Weight {
    GridWeight of;
    std::vector<std::int64_t> offsets;  // of its owners
    bool gathers = false, reduces = false;
    std::int64_t at = 0;  // in the place, bytes
    KeptHandle kept;      // whole, where the policy keeps it
  };
  TransferPlace* Begin(const LayerContext& context, bool moves) const {
    return moves ? &context.transfers->Begin(context, transfer_) : nullptr;
  }
  TensorSpec BlockSpec(const Weight& weight) const { return {dtype_, {weight.of.parameter.block.elements()}}; }
  Communicator* Along(const Weight& weight) const { return grid_->along(weight.of.parameter.group); }

  const Grid* grid_ = nullptr;
  GridPolicy policy_;
  DType dtype_ = DType::kF32;  // of weights; a gradient has that of the tensor it is added to
  std::int64_t gradient_bytes_ = 0;
  std::vector<Weight> weights_;
  TransferSpec spec_;
  TransferHandle transfer_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_WEIGHTS_H_
