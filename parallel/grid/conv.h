// GridConv: the multiplication rule (product.h) for a convolution (kernels/conv/conv.h). Samples are the rows, channels of X the index that
// is summed over, filters the columns; images are never cut, and no patch is ever copied:
//
//   operand          one rank's brick needs       a rank holds of it
//   X  [N, H, W, C]  samples of R, channels of K  some of the samples, along N
//   W  [K, R, S, C]  filters of N, channels of K  a flat part, along R
//   Y  [N, P, Q, K]  samples of R, filters of N   some of the samples, along K
//
// The next convolution swaps the axes of K and N and finds its X where this one left Y. Parts are samples, so that a gathered operand is a
// batch of whole images with some of their channels, in the kernel's own order.
//
// Without an axis of the contraction (FitWholeChannels) a rank reads all channels of its samples and makes its filters' results: X and Y
// lie alike, and R is two axes. It gathers no samples and reduces no results.
#ifndef LYCIA_PARALLEL_GRID_CONV_H_
#define LYCIA_PARALLEL_GRID_CONV_H_

#include <string>

#include "kernels/conv/conv_shape.h"
#include "parallel/grid/product.h"
#include "parallel/grid/sizes.h"

namespace lycia {

// Sizes and roles of one convolution on a grid.
struct GridConvShape {
  const Grid* grid = nullptr;  // outlives the layers
  GridRoles roles;
  Spread in_parts = Spread::kRows;  // how X is cut along N: by samples; by channels, or not at all
  ConvShape whole;                  // of a micro-batch, all ranks together
  GridConvSizes sizes;

  // What this rank computes: samples of R, channels of K, filters of N.
  ConvShape Brick() const;
  // A rank's part of X and of Y: [samples, H, W, channels], [samples, P, Q, filters].
  TensorSpec In(DType dtype) const;
  TensorSpec Out(DType dtype) const;
  // Channels and filters of this rank's block of W, with padding.
  std::vector<IndexRange> Channels() const;
  std::vector<IndexRange> Filters() const;
  // The ranks with the same block of W; with the same filters of Y.
  GridGroup owners() const { return roles.contraction ? GroupOf(roles.rows) : sharers(); }
  GridGroup sharers() const { return roles.columns == Axis::kX ? GridGroup::kZY : GridGroup::kZX; }
};

// InvalidArgument with the numbers for a shape that cannot be (CheckConvShape) or does not fit the grid (sizes.h).
StatusOr<GridConvShape> FitConv(const Grid& grid, const GridRoles& roles, const ConvShape& whole, std::int64_t norm_samples = 1);
// The same without an axis of the contraction, filters along `columns` (x or y). in_parts: kColumns, X's channels are cut like Y's; or
// kReplicate, every rank has all of them.
StatusOr<GridConvShape> FitWholeChannels(const Grid& grid, Axis columns, Spread in_parts, const ConvShape& whole,
                                         std::int64_t norm_samples = 1);

// The block of the tensor [K, R, S, C] that this rank computes with, owned flat along R, which GridConvShape::owners() are; initially
// normal with variance 2 / (K R S). each_step: gathered and reduced once a step (Exchange::kEachStep).
GridParameter ConvFilter(const GridConvShape& shape, const std::string& name, bool each_step);
// A number for each of `size` channels that are cut along x or y, `width` of them a rank: a bias, or of a batch norm. The ranks with the
// same channels share the working copy and own it flat; its gradient is a summand over them.
struct ChannelVectorArgs {
  const Grid* grid = nullptr;
  Axis along = Axis::kX;
  std::int64_t size = 0, width = 0;
  std::string name;
  Initial initial = Initial::kZero;
};
GridParameter ChannelVector(const ChannelVectorArgs& args);
// Of the filters of a convolution whose R is z.
GridParameter FilterVector(const GridConvShape& shape, const std::string& name, Initial initial = Initial::kZero);

class GridConv {
 public:
  struct Args {
    GridConvShape shape;         // X's channels not cut along N, where there is no axis of the contraction
    Sharding in;                 // of X: samples cut along R and N, channels along K
    bool input_gradient = true;  // false: nobody asks for dX
    GridPolicy policy;
    GridWeight weight;  // of ConvFilter
  };
  // Declares kept tensors and handoffs; scratch is the layer's, and lives as long as this. Internal error where the roles do not fit X.
  static StatusOr<GridConv> Create(const Args& args, LayerPlan& plan, GridScratch* scratch);

  const Sharding& out() const { return product_.out(); }  // of Y
  const TensorSpec& in_spec() const { return product_.in_spec(); }
  const TensorSpec& out_spec() const { return product_.out_spec(); }

  // For Layer::Fetch.
  TransferHandle transfer() const { return product_.transfer(); }
  void Fetch(const LayerContext& context, TransferPlace& place) const { product_.Fetch(context, place); }

  // Where the caller writes this rank's part of X before Forward; it stays until BackwardWeight.
  Tensor Input(const LayerContext& context) const { return product_.Input(context); }
  // out = this rank's part of Y. bias: of FilterVector, or absent.
  void Forward(const LayerContext& context, const Tensor& out, const ConstTensor& bias) const;
  // Where the caller writes this rank's part of dY before the backward; it stays until BackwardWeight.
  Tensor OutputGradient(const LayerContext& context) const { return product_.OutputGradient(context); }
  // din = this rank's part of dX; nothing without an input gradient. A bias's gradient is the caller's: the column sums of OutputGradient.
  void BackwardInput(const LayerContext& context, const Tensor& din) const;
  void BackwardWeight(const LayerContext& context) const;
  void Backward(const LayerContext& context, const Tensor& din) const;

 private:
  using Blocks = GridProduct::Blocks;
  GridConv(const ConvShape& brick, GridProduct product) : brick_(brick), product_(std::move(product)) {}

  // A block that stays the same memory for a whole step is packed once in it.
  void PlanPacks(const Args& args, LayerPlan& plan);
  void MultiplyBack(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& dx) const;
  void MultiplyWeight(Stream& stream, const Tensor& x, const Tensor& dy, const Blocks& dweights) const;

  ConvShape brick_;
  GridProduct product_;
  PackedConvHandle packed_, packed_back_;  // index -1: none
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_CONV_H_
