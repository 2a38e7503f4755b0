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

std::vector<IndexRange> GridConvShape::Channels() const {
  if (roles.contraction) return PaddedPart(whole.C, sizes.channels, grid->coordinate(*roles.contraction));
  return PaddedPart(whole.C, sizes.channels * (in_parts == Spread::kColumns ? grid->size(roles.columns) : 1), 0);
}
std::vector<IndexRange> GridConvShape::Filters() const { return PaddedPart(whole.K, sizes.filters, grid->coordinate(roles.columns)); }

StatusOr<GridConvShape> FitConv(const Grid& grid, const GridRoles& roles, const ConvShape& whole, std::int64_t norm_samples) {
  LYCIA_RETURN_IF_ERROR(CheckConvShape(whole));
  const GridConvProblem problem{
      .samples = whole.N, .channels = whole.C, .filters = whole.K, .groups = whole.groups, .norm_samples = norm_samples};
  const GridConvAxes axes{.rows = grid.size(roles.rows), .contraction = grid.size(*roles.contraction), .columns = grid.size(roles.columns)};
  LYCIA_ASSIGN_OR_RETURN(const GridConvSizes sizes, FitConvToGrid(problem, axes));
  return GridConvShape{.grid = &grid, .roles = roles, .whole = whole, .sizes = sizes};
}

StatusOr<GridConvShape> FitWholeChannels(const Grid& grid, Axis columns, Spread in_parts, const ConvShape& whole,
                                         std::int64_t norm_samples) {
  LYCIA_RETURN_IF_ERROR(CheckConvShape(whole));
  LYCIA_CHECK(whole.groups == 1) << "filters that see some channels alone are cut with them ";
  const GridConvProblem problem{.samples = whole.N, .channels = whole.C, .filters = whole.K, .norm_samples = norm_samples};
  const int parts = grid.size(columns), rows = grid.size(columns == Axis::kX ? GridGroup::kZY : GridGroup::kZX);
  LYCIA_ASSIGN_OR_RETURN(GridConvSizes sizes, FitConvToGrid(problem, {.rows = rows}));
  sizes.filters = (whole.K + parts - 1) / parts;
  if (in_parts == Spread::kColumns) sizes.channels = (whole.C + parts - 1) / parts;
  const GridRoles roles{.rows = Axis::kZ, .contraction = std::nullopt, .columns = columns};
  return GridConvShape{.grid = &grid, .roles = roles, .in_parts = in_parts, .whole = whole, .sizes = sizes};
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
  Sharding held = Sharding().With(shape.roles.columns, Spread::kRows);
  if (shape.roles.contraction) held = held.With(*shape.roles.contraction, Spread::kColumns);
  Sharding gradient = held;
  for (const Axis axis : AxesOf(shape.owners())) {
    held = held.With(axis, Spread::kFlat);
    gradient = gradient.With(axis, each_step ? Spread::kPartial : Spread::kFlat);
  }
  const double fan_out = static_cast<double>(whole.K * taps) / static_cast<double>(whole.groups);
  return {.name = name,
          .tensor = name,
          .tensor_shape = {whole.K, whole.R(), whole.S(), columns},
          .block = {.tensor_columns = columns,
                    .rows = std::move(rows),
                    .columns = whole.groups == 1 ? shape.Channels() : std::vector<IndexRange>{{0, columns}}},
          .group = shape.owners(),
          .exchange = each_step ? Exchange::kEachStep : Exchange::kEachUse,
          .held = held,
          .gradient = gradient,
          .initial = Initial::kNormal,
          .std = std::sqrt(2 / fan_out),
          .decay = true};
}

GridParameter ChannelVector(const ChannelVectorArgs& args) {
  const Sharding cut = Sharding().With(args.along, Spread::kColumns);
  const GridGroup group = args.along == Axis::kX ? GridGroup::kZY : GridGroup::kZX;
  Sharding held = cut, gradient = cut;
  for (const Axis axis : AxesOf(group)) {
    held = held.With(axis, Spread::kFlat);
    gradient = gradient.With(axis, Spread::kPartial);
  }
  return {.name = args.name,
          .tensor = args.name,
          .tensor_shape = {args.size},
          .block = {.tensor_columns = args.size,
                    .rows = {{0, 1}},
                    .columns = PaddedPart(args.size, args.width, args.grid->coordinate(args.along))},
          .group = group,
          .exchange = Exchange::kFused,
          .held = held,
          .gradient = gradient,
          .initial = args.initial};
}

GridParameter FilterVector(const GridConvShape& shape, const std::string& name, Initial initial) {
  LYCIA_CHECK(shape.roles.rows == Axis::kZ && shape.roles.contraction != Axis::kZ) << "no group of ranks shares a vector along these axes ";
  return ChannelVector({.grid = shape.grid,
                        .along = shape.roles.columns,
                        .size = shape.whole.K,
                        .width = shape.sizes.filters,
                        .name = name,
                        .initial = initial});
}

StatusOr<GridConv> GridConv::Create(const Args& args, LayerPlan& plan, GridScratch* scratch) {
  const GridConvShape& shape = args.shape;
  LYCIA_ASSIGN_OR_RETURN(GridProduct product, GridProduct::Create({.grid = shape.grid,
                                                                   .roles = shape.roles,
                                                                   .in = args.in,
                                                                   .in_parts = shape.in_parts,
                                                                   .in_part = shape.In(plan.compute()),
                                                                   .out_part = shape.Out(plan.compute()),
                                                                   .transposed = true,
                                                                   .input_gradient = args.input_gradient,
                                                                   .policy = args.policy,
                                                                   .weights = {args.weight}},
                                                                  plan, scratch));
  GridConv conv(shape.Brick(), std::move(product));
  conv.PlanPacks(args, plan);
  return conv;
}

void GridConv::PlanPacks(const Args& args, LayerPlan& plan) {
  const GridParameter& filter = args.weight.parameter;
  if (filter.exchange == Exchange::kEachUse && args.shape.grid->size(filter.group) > 1) return;
  packed_ = plan.PackedConv(args.weight.weight, ConvUse::kForward, brick_);
  if (args.input_gradient) packed_back_ = plan.PackedConv(args.weight.weight, ConvUse::kBackwardInput, brick_);
}

void GridConv::Forward(const LayerContext& context, const Tensor& out, const ConstTensor& bias) const {
  Stream& stream = context.stream();
  const bool reduce = product_.out_size() > 1;
  product_.Forward(context, out, [&](const Tensor& x, const Blocks& weights, const Tensor& y) {
    ConvForward(stream, {.shape = brick_,
                         .in = Shaped(x, Images(brick_)),
                         .weight = Shaped(weights[0], Filter(brick_)),
                         .packed = context.packed(packed_),
                         .out = Shaped(y, Results(brick_)),
                         .bias = reduce ? ConstTensor() : bias});
  });
  if (reduce && bias.shape.rank() > 0) AddBias(stream, {.rows = out, .bias = bias});
}

void GridConv::BackwardInput(const LayerContext& context, const Tensor& din) const {
  product_.BackwardInput(context, din,
                         [&](const Tensor& dy, const Blocks& weights, const Tensor& dx) { MultiplyBack(context, dy, weights, dx); });
}

void GridConv::BackwardWeight(const LayerContext& context) const {
  product_.BackwardWeight(
      context, [&](const Tensor& x, const Tensor& dy, const Blocks& dweights) { MultiplyWeight(context.stream(), x, dy, dweights); });
}

void GridConv::Backward(const LayerContext& context, const Tensor& din) const {
  product_.Backward(
      context, din, [&](const Tensor& dy, const Blocks& weights, const Tensor& dx) { MultiplyBack(context, dy, weights, dx); },
      [&](const Tensor& x, const Tensor& dy, const Blocks& dweights) { MultiplyWeight(context.stream(), x, dy, dweights); });
}

void GridConv::MultiplyBack(const LayerContext& context, const Tensor& dy, const Blocks& weights, const Tensor& dx) const {
  ConvBackwardInput(context.stream(), {.shape = brick_,
                                       .dout = Shaped(dy, Results(brick_)),
                                       .weight = Shaped(weights[0], Filter(brick_)),
                                       .packed = context.packed(packed_back_),
                                       .din = Shaped(dx, Images(brick_))});
}

void GridConv::MultiplyWeight(Stream& stream, const Tensor& x, const Tensor& dy, const Blocks& dweights) const {
  ConvBackwardWeight(stream, {.shape = brick_,
                              .in = Shaped(x, Images(brick_)),
                              .dout = Shaped(dy, Results(brick_)),
                              .dweight = Shaped(dweights[0], Filter(brick_))});
}

}  // namespace lycia
