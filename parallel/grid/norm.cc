#include "parallel/grid/norm.h"

#include "kernels/norm/layer_norm.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/parts/norm_part.h"

namespace lycia {

GridNorm::GridNorm(const Args& args, LayerPlan& plan, GridScratch* scratch) : args_(args), dtype_(plan.statistics()), scratch_(scratch) {
  if (!rms()) mean_ = plan.Keep({dtype_, {args.rows}}, KeepUntil::kWeight);
  rstd_ = plan.Keep({dtype_, {args.rows}}, KeepUntil::kWeight);
  const std::int64_t parts = args.grid->size(Axis::kX);
  if (parts > 1) scratch->Need(GridScratch::Use::kInput, parts * args.rows * NumbersOfRow(rms()) * SizeOf(dtype_));
}

Tensor GridNorm::AllParts(const LayerContext& context) const {
  return scratch_->View(context, GridScratch::Use::kInput, {dtype_, {args_.grid->size(Axis::kX), args_.rows, NumbersOfRow(rms())}});
}

Tensor GridNorm::OwnPart(const Tensor& all) const {
  const TensorSpec part{dtype_, {args_.rows, NumbersOfRow(rms())}};
  char* data = static_cast<char*>(all.data);
  return {data == nullptr ? nullptr : data + args_.grid->coordinate(Axis::kX) * part.bytes(), part.dtype, part.shape};
}

void GridNorm::GatherParts(const LayerContext& context, const Tensor& all) const {
  GatherAlong(context.stream(), args_.grid->along(Axis::kX), OwnPart(all), all, Tag::kNorm);
}

void GridNorm::Forward(const LayerContext& context, const ConstTensor& in, const Tensor& out) const {
  Stream& stream = context.stream();
  const Tensor &gamma = context.parameter(args_.gamma), &rstd = context.keep(rstd_), mean = Mean(context);
  const Tensor beta = rms() ? Tensor() : context.parameter(args_.beta);
  const double eps = args_.eps;
  if (args_.grid->size(Axis::kX) == 1) {
    if (rms()) return RmsNormForward(stream, {.in = in, .gamma = gamma, .out = out, .rstd = rstd, .eps = eps});
    return LayerNormForward(stream, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd, .eps = eps});
  }
  const Tensor all = AllParts(context);
  RowMoments(stream, {.in = in, .moments = OwnPart(all)});
  GatherParts(context, all);
  MergeRowMoments(stream, {.moments = all, .width = in.shape.dim(-1), .mean = mean, .rstd = rstd, .eps = eps});
  NormalisePart(stream, {.in = in, .gamma = gamma, .beta = beta, .mean = mean, .rstd = rstd, .out = out});
}

void GridNorm::BackwardInput(const LayerContext& context, const ConstTensor& in, const ConstTensor& dout, const Tensor& din,
                             bool accumulate) const {
  Stream& stream = context.stream();
  const Tensor &gamma = context.parameter(args_.gamma), &rstd = context.keep(rstd_), mean = Mean(context);
  if (args_.grid->size(Axis::kX) == 1) {
    if (rms()) {
      return RmsNormBackwardInput(stream, {.dout = dout, .in = in, .gamma = gamma, .rstd = rstd, .din = din, .accumulate = accumulate});
    }
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
  Stream& stream = context.stream();
  const Tensor &rstd = context.keep(rstd_), &dgamma = context.gradient(args_.gamma);
  if (rms()) return RmsNormBackwardWeight(stream, {.dout = dout, .in = in, .rstd = rstd, .dgamma = dgamma});
  LayerNormBackwardWeight(
      stream, {.dout = dout, .in = in, .mean = Mean(context), .rstd = rstd, .dgamma = dgamma, .dbeta = context.gradient(args_.beta)});
}

}  // namespace lycia
