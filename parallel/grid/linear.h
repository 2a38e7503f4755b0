// The multiplication rule: Y = X W on a grid whose axes have the roles R (rows), K (contraction) and N (output columns).
//
//   operand    one rank's brick needs    a rank holds of it            forward              backward
//   X  [m, k]  rows R, columns K         a part along N                all-gather along N   dX: reduce-scatter along N
//   W  [k, n]  rows K, columns N         a flat part along R           all-gather along R   dW: reduce-scatter along R
//   Y  [m, n]  rows R, columns N         a part along K                reduce-scatter       dY: all-gather along K
//                                                                      along K              (once for dX and dW)
//
// Every operand is gathered along the axis of the index it lacks; the result is summed along the axis of the index it lost. The next
// product swaps K and N, so nothing is ever transposed. Parts of X and Y are rows, or columns; gathered column parts lie one after
// the other ([parts][rows][columns of a part]) and are multiplied one by one, so nothing is permuted either.
//
// Where a schedule splits the backward, BackwardInput and BackwardWeight are separate calls: with cached output gradients the second uses
// dY as gathered for the first; without, it keeps this rank's part alone and gathers again. Backward is both: dY is gathered once, and dX
// is reduce-scattered while dW is computed.
#ifndef LYCIA_PARALLEL_GRID_LINEAR_H_
#define LYCIA_PARALLEL_GRID_LINEAR_H_

#include <vector>

#include "parallel/grid/grid.h"
#include "parallel/grid/parameter.h"
#include "parallel/grid/scratch.h"
#include "parallel/grid/weights.h"
#include "parallel/layer/layer.h"
#include "parallel/mesh/sharding.h"

namespace lycia {

struct GridRoles {
  Axis rows, contraction, columns;
  bool operator==(const GridRoles&) const = default;
};

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

  const Sharding& out() const { return out_; }  // of Y
  TensorSpec in_spec() const { return PartSpec(args_.in_parts, args_.grid->size(args_.roles.columns), args_.in_width); }
  TensorSpec out_spec() const { return PartSpec(args_.out_parts, args_.grid->size(args_.roles.contraction), args_.out_width); }

  // For Layer::Fetch.
  TransferHandle transfer() const { return weights_.transfer(); }
  void Fetch(const LayerContext& context, TransferPlace& place) const { weights_.Fetch(context, place); }

  // Where the caller writes this rank's part of X before Forward; it stays until BackwardWeight.
  Tensor Input(const LayerContext& context) const;
  // out = this rank's part of Y. bias: one number for each column of that part, or absent.
  void Forward(const LayerContext& context, const Tensor& out, const ConstTensor& bias) const;
  // Where the caller writes this rank's part of dY before the backward; it stays until BackwardWeight.
  Tensor OutputGradient(const LayerContext& context) const;
  // din = this rank's part of dX.
  void BackwardInput(const LayerContext& context, const Tensor& din) const;
  void BackwardWeight(const LayerContext& context) const;
  void Backward(const LayerContext& context, const Tensor& din) const;

 private:
  using Blocks = GridWeights::Blocks;
  // A whole operand, and when it is there.
  struct Arriving {
    Tensor whole;
    Event ready;
  };
  GridLinear(const Args& args, DType dtype, GridScratch* scratch) : args_(args), dtype_(dtype), scratch_(scratch) {}

  int in_size() const { return args_.grid->size(args_.roles.columns); }
  int out_size() const { return args_.grid->size(args_.roles.contraction); }
  Axis in_axis() const { return args_.roles.columns; }
  Axis out_axis() const { return args_.roles.contraction; }
  TensorSpec PartSpec(Spread parts, int size, std::int64_t width) const;
  Status Type();
  // The event of an operation that was just started; waited for at once where nothing overlaps.
  Event Started(Stream& stream, const Event& event) const;

  Arriving WholeInput(const LayerContext& context, bool backward) const;
  Arriving WholeOutputGradient(const LayerContext& context, bool weight) const;
  Tensor PartOf(const Tensor& whole, Axis axis, const TensorSpec& part) const;
  GridScratch::Use UseOfInputGradient() const;
  // dX = dY W^T, then its reduce-scatter. dW += X^T dY, then its reduce-scatters.
  Event InputGradient(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& din) const;
  void WeightGradient(const LayerContext& context, const Tensor& x, const Tensor& dy, TransferPlace* place) const;

  // Calls visit for every product that the brick is made of: a part of X, a piece of a weight, a part of Y.
  template <typename F>
  void ForEachProduct(const F& visit) const;

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

#endif  // LYCIA_PARALLEL_GRID_LINEAR_H_
