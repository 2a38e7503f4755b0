// GridLinear: the multiplication rule (product.h) for matrices, Y = X W. Parts of X and Y are rows, or columns; gathered column parts lie
// one after the other ([parts][rows][columns of a part]) and are multiplied one by one, so nothing is permuted.
#ifndef LYCIA_PARALLEL_GRID_LINEAR_H_
#define LYCIA_PARALLEL_GRID_LINEAR_H_

#include <vector>

#include "parallel/grid/product.h"

namespace lycia {

// Columns [at, at + width) of an output part come from columns [from, from + width) of a weight's block.
struct WeightPiece {
  int weight = 0;
  std::int64_t from = 0, at = 0, width = 0;
};

class GridLinear {
 public:
  struct Args {
    const Grid* grid = nullptr;
    GridRoles roles;
    Sharding in;                                         // of X
    Spread in_parts = Spread::kRows;                     // how X is cut along N: kRows or kColumns
    Spread out_parts = Spread::kRows;                    // how Y is cut along K
    std::int64_t rows = 0, in_width = 0, out_width = 0;  // of the brick: m / |R|, k / |K|, n / |N|
    bool transposed = false;                             // W is stored [n, k]; one weight, whole
    bool early_output_gradient = false;                  // dY is written before the backward: kept, not handed over
    GridPolicy policy;
    std::vector<GridWeight> weights;  // at most GridWeights::kMost
    // Of each output part (|K| with column parts, else 1); empty: one weight, cut in order.
    std::vector<std::vector<WeightPiece>> pieces = {};
  };
  // Declares kept tensors and handoffs; scratch is the layer's, and lives as long as this. Internal error where the roles do not fit X.
  static StatusOr<GridLinear> Create(const Args& args, LayerPlan& plan, GridScratch* scratch);

  const Sharding& out() const { return product_.out(); }  // of Y
  const TensorSpec& in_spec() const { return product_.in_spec(); }
  const TensorSpec& out_spec() const { return product_.out_spec(); }

  // For Layer::Fetch.
  TransferHandle transfer() const { return product_.transfer(); }
  void Fetch(const LayerContext& context, TransferPlace& place) const { product_.Fetch(context, place); }

  // Where the caller writes this rank's part of X before Forward; it stays until BackwardWeight.
  Tensor Input(const LayerContext& context) const { return product_.Input(context); }
  // out = this rank's part of Y. bias: one number for each column of that part, or absent.
  void Forward(const LayerContext& context, const Tensor& out, const ConstTensor& bias) const;
  // Where the caller writes this rank's part of dY before the backward; it stays until BackwardWeight.
  Tensor OutputGradient(const LayerContext& context) const { return product_.OutputGradient(context); }
  // din = this rank's part of dX.
  void BackwardInput(const LayerContext& context, const Tensor& din) const;
  void BackwardWeight(const LayerContext& context) const;
  void Backward(const LayerContext& context, const Tensor& din) const;

 private:
  using Blocks = GridProduct::Blocks;
  GridLinear(const Args& args, GridProduct product) : args_(args), product_(std::move(product)) {}

  // What one rank computes: dX = dY W^T; dW += X^T dY.
  void MultiplyBack(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& dx) const;
  void MultiplyWeight(Stream& stream, const Tensor& x, const Tensor& dy, const Blocks& dweights) const;
  // Weights that stay the same memory for a whole step are packed once in it.
  void PlanPacks(LayerPlan& plan);
  // Calls visit for every product that the brick is made of: a part of X, a piece of a weight, a part of Y.
  template <typename F>
  void ForEachProduct(const F& visit) const;

  Args args_;
  GridProduct product_;
  std::vector<PackedHandle> packed_, packed_back_;  // of the products in their order; index -1: none
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_LINEAR_H_
