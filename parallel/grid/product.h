// GridProduct: what the multiplication rule moves for a product Y = X W on a grid whose axes have the roles R (rows), K (contraction) and N
// (output columns). The product itself is the caller's: of matrices (linear.h), a convolution (conv.h).
//
//   operand    one rank's brick needs    a rank holds of it            forward              backward
//   X  [m, k]  rows R, columns K         a part along N                all-gather along N   dX: reduce-scatter along N
//   W  [k, n]  rows K, columns N         a flat part along R           all-gather along R   dW: reduce-scatter along R
//   Y  [m, n]  rows R, columns N         a part along K                reduce-scatter       dY: all-gather along K
//                                                                      along K              (once for dX and dW)
//
// Every operand is gathered along the axis of the index it lacks; the result is summed along the axis of the index it lost. The next
// product swaps K and N, so nothing is ever transposed. Gathered parts lie one after the other, whether they are rows or columns.
//
// Where a schedule splits the backward, BackwardInput and BackwardWeight are separate calls: with cached output gradients the second uses
// dY as gathered for the first; without, it keeps this rank's part alone and gathers again. Backward is both: dY is gathered once, and dX
// is reduce-scattered while dW is computed.
#ifndef LYCIA_PARALLEL_GRID_PRODUCT_H_
#define LYCIA_PARALLEL_GRID_PRODUCT_H_

#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "parallel/grid/grid.h"
#include "parallel/grid/parameter.h"
#include "parallel/grid/scratch.h"
#include "parallel/grid/weights.h"
#include "parallel/layer/layer.h"
#include "parallel/mesh/sharding.h"

namespace lycia {

// Without an axis of the contraction a rank sums over all of k itself, and nothing is reduced forward: R is then the two axes that are not
// N.
struct GridRoles {
  Axis rows;
  std::optional<Axis> contraction;
  Axis columns;
  bool operator==(const GridRoles&) const = default;
};

class GridProduct {
 public:
  using Blocks = GridWeights::Blocks;
  struct Args {
    const Grid* grid = nullptr;
    GridRoles roles;
    Sharding in;  // of X
    // How X is cut along N: kRows or kColumns; or not at all (kReplicate), where nobody asks for dX.
    Spread in_parts = Spread::kRows;
    Spread out_parts = Spread::kRows;    // how Y is cut along K
    TensorSpec in_part, out_part;        // one part of X, of Y
    bool transposed = false;             // rows of a weight's block are columns of W
    bool early_output_gradient = false;  // dY is written before the backward: kept, not handed over
    bool input_gradient = true;          // false: nobody asks for dX
    GridPolicy policy;
    std::vector<GridWeight> weights;  // at most GridWeights::kMost
  };
  // Declares kept tensors and handoffs; scratch is the layer's, and lives as long as this. Internal error where the roles do not fit X.
  static StatusOr<GridProduct> Create(const Args& args, LayerPlan& plan, GridScratch* scratch);

  const Sharding& out() const { return out_; }  // of Y
  const TensorSpec& in_spec() const { return args_.in_part; }
  const TensorSpec& out_spec() const { return args_.out_part; }
  // Parts of X; parts of Y: above 1, Y is a sum over ranks.
  int in_size() const { return args_.in_parts == Spread::kReplicate ? 1 : args_.grid->size(args_.roles.columns); }
  int out_size() const { return args_.roles.contraction ? args_.grid->size(*args_.roles.contraction) : 1; }

  // For Layer::Fetch.
  TransferHandle transfer() const { return weights_.transfer(); }
  void Fetch(const LayerContext& context, TransferPlace& place) const { weights_.Fetch(context, place); }

  // Where the caller writes this rank's part of X before Forward; it stays until BackwardWeight.
  Tensor Input(const LayerContext& context) const;
  // Where the caller writes this rank's part of dY before the backward; it stays until BackwardWeight.
  Tensor OutputGradient(const LayerContext& context) const;

  // What one rank computes. x, y, dy, dx: all parts of this rank's brick, one after the other; weights: whole blocks.
  using Multiply = absl::FunctionRef<void(const Tensor& x, const Blocks& weights, const Tensor& y)>;          // y =
  using MultiplyBack = absl::FunctionRef<void(const Tensor& dy, const Blocks& weights, const Tensor& dx)>;    // dx =
  using MultiplyWeight = absl::FunctionRef<void(const Tensor& x, const Tensor& dy, const Blocks& dweights)>;  // dweights +=

  // out = this rank's part of Y; it is y itself where out_size() is 1.
  void Forward(const LayerContext& context, const Tensor& out, Multiply multiply) const;
  // din = this rank's part of dX; nothing without an input gradient.
  void BackwardInput(const LayerContext& context, const Tensor& din, MultiplyBack back) const;
  void BackwardWeight(const LayerContext& context, MultiplyWeight weight) const;
  void Backward(const LayerContext& context, const Tensor& din, MultiplyBack back, MultiplyWeight weight) const;

 private:
  // A whole operand, and when it is there.
  struct Arriving {
    Tensor whole;
    Event ready;
  };
  GridProduct(const Args& args, DType dtype, GridScratch* scratch) : args_(args), dtype_(dtype), scratch_(scratch) {}

  Axis in_axis() const { return args_.roles.columns; }
  Axis out_axis() const { return *args_.roles.contraction; }  // where Y has parts
  TensorSpec WholeIn() const { return {dtype_, {args_.in_part.elements() * in_size()}}; }
  TensorSpec WholeOut() const { return {dtype_, {args_.out_part.elements() * out_size()}}; }
  Status Type();
  // The event of an operation that was just started; waited for at once where nothing overlaps.
  Event Started(Stream& stream, const Event& event) const;

  Arriving WholeInput(const LayerContext& context, bool backward) const;
  Arriving WholeOutputGradient(const LayerContext& context, bool weight) const;
  static Tensor PartOf(const Tensor& whole, int index, const TensorSpec& part);
  GridScratch::Use UseOfInputGradient() const;
  // dX, then its reduce-scatter. dW, then its reduce-scatters.
  Event InputGradient(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& din, MultiplyBack back) const;
  void WeightGradient(const LayerContext& context, const Tensor& x, const Tensor& dy, TransferPlace* place, MultiplyWeight weight) const;

  Args args_;
  DType dtype_;
  GridScratch* scratch_;
  Sharding out_;
  GridWeights weights_;
  KeptHandle input_;
  HandoffHandle output_gradient_;
  KeptHandle early_output_gradient_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_PRODUCT_H_
