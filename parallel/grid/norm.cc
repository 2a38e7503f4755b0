#include "parallel/grid/norm.h"

#include "kernels/norm/layer_norm.h"
#include "kernels/parts/norm_part.h"

namespace lycia {

GridNorm::GridNorm(const Grid& grid, std::int64_t rows, ParameterHandle gamma, ParameterHandle beta, LayerPlan& plan, GridScratch* scratch)
    : grid_(&grid), rows_(rows), dtype_(plan.statistics()), gamma_(gamma), beta_(beta), scratch_(scratch) {
  mean_ = plan.Keep({dtype_, {rows}}, KeepUntil::kWeight);
  rstd_ = plan.Keep({dtype_, {rows}}, KeepUntil::kWeight);
  if (grid.size(Axis::kX) > 1) scratch->Need(GridScratch::Use::kInput, grid.size(Axis::kX) * rows * 2 * SizeOf(dtype_));
}

Tensor GridNorm::AllParts(const LayerContext& context) const {
  return scratch_->View(context, GridScratch::Use::kInput, {dtype_, {grid_->size(Axis::kX), rows_, 2}});
}

Tensor GridNorm::OwnPart(const Tensor& all) const {
  const TensorSpec part{dtype_, {rows_, 2}};
  char* data = static_cast<char*>(all.data);
  return {data == nullptr ? nullptr : data + grid_->coordinate(Axis::kX) * part.bytes(), part.dtype, part.shape};
}

void GridNorm::GatherParts(const LayerContext& context, const Tensor& all) const {
  GatherAlong(context.stream(), grid_->along(Axis::kX), OwnPart(all), all, Tag::kNorm);
}

void GridNorm::Forward(const LayerContext& context, const ConstTensor& in, const Tensor& out) const {
  Stream& stream = context.stream();
  const Tensor &gamma = context.parameter(gamma_), &beta = context.parameter(beta_);
  const Tensor &mean = context.keep(mean_), &rstd = context.keep(rstd_);
  if (grid_->size(Axis::kX) == 1) {
    return LayerNormForward(stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
  }
  const Tensor all = AllParts(context);
  RowMoments(stream, {.in = in, .moments = OwnPart(all)});
  GatherParts(context, all);
  MergeRowMoments(stream, {.moments = all, .width = in.shape.dim(-1), .mean = mean, .rstd = rstd});
  NormalisePart(stream, {.in = in, .gamma = gamma, .beta = beta, .mean = mean, .rstd = rstd, .out = out});
}

void GridNorm::BackwardInput(const LayerContext& context, const ConstTensor& in, const ConstTensor& dout, const Tensor& din,
                             bool accumulate) const {
  Stream& stream = context.stream();
  const Tensor &gamma = context.parameter(gamma_), &mean = context.keep(mean_), &rstd = context.keep(rstd_);
  if (grid_->size(Axis::kX) == 1) {
    return LayerNormBackwardInput(
        stream, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = din, .accumulate = accumulate});
  }
  const Tensor all = AllParts(context);
  NormGradientSums(stream, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .sums = OwnPart(all)});
  GatherParts(context, all);
  NormPartBackwardInput(
      stream, {.dout = dout, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .sums = all, .din = din, .accumulate = accumulate});
}

void GridNorm::BackwardWeight(const LayerContext& context, const ConstTensor& in, const ConstTensor& dout) const {
  LayerNormBackwardWeight(context.stream(), {.dout = dout,
                                             .in = in,
                                             .mean = context.keep(mean_),
                                             .rstd = context.keep(rstd_),
                                             .dgamma = context.gradient(gamma_),
                                             .dbeta = context.gradient(beta_)});
}

}  // namespace lycia
