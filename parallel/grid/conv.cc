#include "parallel/grid/conv.h"

#include <cmath>
#include <utility>

#include "kernels/conv/conv.h"
#include "kernels/parts/bias.h"

namespace lycia {
namespace {

Tensor Shaped(const Tensor& of, const Shape& shape) { return {of.data, of.dtype, shape}; }

Shape Images(const ConvShape& s) { return {s.N, s.H(), s.W(), s.C}; }
Shape Results(const ConvShape& s) { return {s.N, s.P(), s.Q(), s.K}; }
Shape Filter(const ConvShape& s) { return {s.K, s.R(), s.S(), s.group_C()}; }

}  // namespace

ConvShape GridConvShape::Brick() const {
  ConvShape brick = whole;
  brick.N = sizes.samples;
  brick.C = sizes.channels;
  brick.K = sizes.filters;
  return brick;
}

TensorSpec GridConvShape::In(DType dtype) const { return {dtype, {sizes.in_samples, whole.H(), whole.W(), sizes.channels}}; }
TensorSpec GridConvShape::Out(DType dtype) const { return {dtype, {sizes.out_samples, whole.P(), whole.Q(), sizes.filters}}; }

std::vector<IndexRange> GridConvShape::Channels() const { return PaddedPart(whole.C, sizes.channels, grid->coordinate(roles.contraction)); }
std::vector<IndexRange> GridConvShape::Filters() const { return PaddedPart(whole.K, sizes.filters, grid->coordinate(roles.columns)); }

StatusOr<GridConvShape> FitConv(const Grid& grid, const GridRoles& roles, const ConvShape& whole, std::int64_t norm_samples) {
  LYCIA_RETURN_IF_ERROR(CheckConvShape(whole));
  const GridConvProblem problem{
      .samples = whole.N, .channels = whole.C, .filters = whole.K, .groups = whole.groups, .norm_samples = norm_samples};
  const GridConvAxes axes{.rows = grid.size(roles.rows), .contraction = grid.size(roles.contraction), .columns = grid.size(roles.columns)};
  LYCIA_ASSIGN_OR_RETURN(const GridConvSizes sizes, FitConvToGrid(problem, axes));
  return GridConvShape{.grid = &grid, .roles = roles, .whole = whole, .sizes = sizes};
}

GridParameter ConvFilter(const GridConvShape& shape, const std::string& name, bool each_step) {
  const ConvShape& whole = shape.whole;
  const std::int64_t taps = whole.R() * whole.S();
  // Rows of the block are taps of filters: those of one filter follow one another.
  std::vector<IndexRange> rows = shape.Filters();
  for (IndexRange& range : rows) {
    if (range.first > 0) range.first *= taps;
    range.count *= taps;
  }
  // Channels are those of a group; a convolution with several is not cut by channels.
  const std::int64_t columns = whole.group_C();
  const Sharding cut = Sharding().With(shape.roles.columns, Spread::kRows).With(shape.roles.contraction, Spread::kColumns);
  const double fan_out = static_cast<double>(whole.K * taps) / static_cast<double>(whole.groups);
  return {.name = name,
          .tensor = name,
          .tensor_shape = {whole.K, whole.R(), whole.S(), columns},
          .block = {.tensor_columns = columns,
                    .rows = std::move(rows),
                    .columns = whole.groups == 1 ? shape.Channels() : std::vector<IndexRange>{{0, columns}}},
          .group = GroupOf(shape.roles.rows),
          .exchange = each_step ? Exchange::kEachStep : Exchange::kEachUse,
          .held = cut.With(shape.roles.rows, Spread::kFlat),
          .gradient = cut.With(shape.roles.rows, each_step ? Spread::kPartial : Spread::kFlat),
          .initial = Initial::kNormal,
          .std = std::sqrt(2 / fan_out),
          .decay = true};
}

GridParameter FilterVector(const GridConvShape& shape, const std::string& name, Initial initial) {
  const GridRoles& roles = shape.roles;
  LYCIA_CHECK(roles.rows == Axis::kZ && roles.contraction != Axis::kZ) << "no group of ranks shares a vector along these axes ";
  const Sharding cut = Sharding().With(roles.columns, Spread::kColumns);
  return {.name = name,
          .tensor = name,
          .tensor_shape = {shape.whole.K},
          .block = {.tensor_columns = shape.whole.K, .rows = {{0, 1}}, .columns = shape.Filters()},
          .group = roles.contraction == Axis::kX ? GridGroup::kZX : GridGroup::kZY,
          .exchange = Exchange::kFused,
          .held = cut.With(roles.rows, Spread::kFlat).With(roles.contraction, Spread::kFlat),
          .gradient = cut.With(roles.rows, Spread::kPartial).With(roles.contraction, Spread::kPartial),
          .initial = initial};
}

StatusOr<GridConv> GridConv::Create(const Args& args, LayerPlan& plan, GridScratch* scratch) {
  const GridConvShape& shape = args.shape;
  LYCIA_ASSIGN_OR_RETURN(GridProduct product, GridProduct::Create({.grid = shape.grid,
                                                                   .roles = shape.roles,
                                                                   .in = args.in,
                                                                   .in_part = shape.In(plan.compute()),
                                                                   .out_part = shape.Out(plan.compute()),
                                                                   .transposed = true,
                                                                   .input_gradient = args.input_gradient,
                                                                   .policy = args.policy,
                                                                   .weights = {args.weight}},
                                                                  plan, scratch));
  return GridConv(shape.Brick(), std::move(product));
}

void GridConv::Forward(const LayerContext& context, const Tensor& out, const ConstTensor& bias) const {
  Stream& stream = context.stream();
  const bool reduce = product_.out_size() > 1;
  product_.Forward(context, out, [&](const Tensor& x, const Blocks& weights, const Tensor& y) {
    ConvForward(stream, {.shape = brick_,
                         .in = Shaped(x, Images(brick_)),
                         .weight = Shaped(weights[0], Filter(brick_)),
                         .out = Shaped(y, Results(brick_)),
                         .bias = reduce ? ConstTensor() : bias});
  });
  if (reduce && bias.shape.rank() > 0) AddBias(stream, {.rows = out, .bias = bias});
}

void GridConv::BackwardInput(const LayerContext& context, const Tensor& din) const {
  product_.BackwardInput(
      context, din, [&](const Tensor& dy, const Blocks& weights, const Tensor& dx) { MultiplyBack(context.stream(), dy, weights, dx); });
}

void GridConv::BackwardWeight(const LayerContext& context) const {
  product_.BackwardWeight(
      context, [&](const Tensor& x, const Tensor& dy, const Blocks& dweights) { MultiplyWeight(context.stream(), x, dy, dweights); });
}

void GridConv::Backward(const LayerContext& context, const Tensor& din) const {
  product_.Backward(
      context, din, [&](const Tensor& dy, const Blocks& weights, const Tensor& dx) { MultiplyBack(context.stream(), dy, weights, dx); },
      [&](const Tensor& x, const Tensor& dy, const Blocks& dweights) { MultiplyWeight(context.stream(), x, dy, dweights); });
}

void GridConv::MultiplyBack(Stream& stream, const Tensor& dy, const Blocks& weights, const Tensor& dx) const {
  ConvBackwardInput(stream, {.shape = brick_,
                             .dout = Shaped(dy, Results(brick_)),
                             .weight = Shaped(weights[0], Filter(brick_)),
                             .din = Shaped(dx, Images(brick_))});
}

void GridConv::MultiplyWeight(Stream& stream, const Tensor& x, const Tensor& dy, const Blocks& dweights) const {
  ConvBackwardWeight(stream, {.shape = brick_,
                              .in = Shaped(x, Images(brick_)),
                              .dout = Shaped(dy, Results(brick_)),
                              .dweight = Shaped(dweights[0], Filter(brick_))});
}

}  // namespace lycia
