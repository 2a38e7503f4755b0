#include "models/layers/grid_dense.h"

#include <cmath>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "parallel/grid/conv.h"

namespace lycia {
namespace {

// Features of this rank: its channels of every pixel, pixel by pixel.
std::vector<IndexRange> OwnFeatures(const Grid& grid, const GridImages& in) {
  std::vector<IndexRange> features;
  for (std::int64_t pixel = 0; pixel < in.height * in.width; ++pixel) {
    for (IndexRange range : PaddedPart(in.channels, in.part_channels(grid), grid.coordinate(in.channels_along))) {
      if (range.first >= 0) range.first += pixel * in.channels;
      features.push_back(range);
    }
  }
  return features;
}

GridParameter DenseWeight(const Grid& grid, const GridImages& in, const GridDense::Options& options, std::int64_t part_units) {
  const std::int64_t F = in.height * in.width * in.channels;
  const Axis K = in.channels_along, N = in.samples_along();
  const Sharding cut = Sharding().With(N, Spread::kRows).With(K, Spread::kColumns);
  const bool each_step = options.weights_each_step;
  const std::string name = options.name + ".weight";
  return {
      .name = name,
      .tensor = name,
      .tensor_shape = {options.units, F},
      .block = {.tensor_columns = F, .rows = PaddedPart(options.units, part_units, grid.coordinate(N)), .columns = OwnFeatures(grid, in)},
      .group = GridGroup::kZ,
      .exchange = each_step ? Exchange::kEachStep : Exchange::kEachUse,
      .held = cut.With(Axis::kZ, Spread::kFlat),
      .gradient = cut.With(Axis::kZ, each_step ? Spread::kPartial : Spread::kFlat),
      .initial = Initial::kNormal,
      .std = std::sqrt(options.variance_times_features / static_cast<double>(F)),
      .decay = true};
}

}  // namespace

StatusOr<GridImages> GridDense::Plan(const Grid& grid, const GridImages& in, const Options& options, Declare declare, LayerPlan& plan,
                                     GridScratch* scratch) {
  const Axis K = in.channels_along, N = in.samples_along();
  const StatusOr<GridConvSizes> fit = FitConvToGrid({.samples = in.samples, .channels = in.channels, .filters = options.units},
                                                    {.rows = grid.size(Axis::kZ), .contraction = grid.size(K), .columns = grid.size(N)});
  if (!fit.ok()) return Annotate(fit.status(), StrCat(options.name, ", whose R, K, N are z, ", Name(K), ", ", Name(N)));
  part_units_ = fit->filters;
  const GridParameter weight = DenseWeight(grid, in, options, part_units_);
  const ParameterHandle handle = declare(weight);
  const std::int64_t part_features = in.height * in.width * fit->channels;
  LYCIA_ASSIGN_OR_RETURN(product_, GridLinear::Create({.grid = &grid,
                                                       .roles = {.rows = Axis::kZ, .contraction = K, .columns = N},
                                                       .in = in.sharding(),
                                                       .rows = fit->samples,
                                                       .in_width = part_features,
                                                       .out_width = part_units_,
                                                       .transposed = true,
                                                       .early_output_gradient = options.early_output_gradient,
                                                       .policy = options.policy,
                                                       .weights = {{weight, handle, handle}}},
                                                      plan, scratch));
  bias_ = declare(ChannelVector({.grid = &grid, .along = N, .size = options.units, .width = part_units_, .name = options.name + ".bias"}));
  plan.CountFlops(2.0 * static_cast<double>(fit->samples * part_features) * static_cast<double>(part_units_));
  return GridImages{.samples = in.samples, .height = 1, .width = 1, .channels = options.units, .channels_along = N};
}

void GridDense::BackwardWeight(const LayerContext& context) const {
  product_->BackwardWeight(context);
  BackwardBias(context);
}

void GridDense::Backward(const LayerContext& context, const Tensor& din) const {
  product_->Backward(context, din);
  BackwardBias(context);
}

void GridDense::BackwardBias(const LayerContext& context) const {
  BiasGradient(context.stream(), {.dout = AsMatrix(OutputGradient(context)), .dbias = context.gradient(bias_)});
}

}  // namespace lycia
