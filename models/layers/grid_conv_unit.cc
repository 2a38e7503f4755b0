#include "models/layers/grid_conv_unit.h"

#include "kernels/activation/relu.h"
#include "kernels/gemm/gemm.h"
#include "kernels/norm/batch_norm.h"

namespace lycia {

TensorSpec GridImages::Part(const Grid& grid, DType dtype) const {
  const std::int64_t parts = grid.size(channels_along);
  return {dtype, {samples / grid.size(Axis::kZ) / grid.size(samples_along()), height, width, (channels + parts - 1) / parts}};
}

StatusOr<GridImages> GridConvUnit::Plan(const Grid& grid, const GridImages& in, Declare declare, LayerPlan& plan, GridScratch* scratch) {
  const auto axis = [&](std::int64_t size) {
    const std::int64_t pad = options_.filter / 2;
    return ConvAxis{.in = size, .filter = options_.filter, .stride = options_.stride, .pad_before = pad, .pad_after = pad};
  };
  const ConvShape whole{.N = in.samples, .C = in.channels, .K = options_.filters, .height = axis(in.height), .width = axis(in.width)};
  const GridRoles roles{.rows = Axis::kZ, .contraction = in.channels_along, .columns = in.samples_along()};
  StatusOr<GridConvShape> fit = FitConv(grid, roles, whole, normed() ? options_.norm_samples : 1);
  if (!fit.ok())
    return Annotate(fit.status(), StrCat(options_.name, ", whose R, K, N are z, ", Name(roles.contraction), ", ", Name(roles.columns)));
  shape_ = *fit;
  const GridParameter filter = ConvFilter(shape_, options_.name + ".weight", options_.weights_each_step);
  const ParameterHandle handle = declare(filter);
  LYCIA_ASSIGN_OR_RETURN(conv_, GridConv::Create({.shape = shape_,
                                                  .in = in.sharding(),
                                                  .input_gradient = options_.input_gradient,
                                                  .policy = options_.policy,
                                                  .weight = {filter, handle, handle}},
                                                 plan, scratch));
  plan.CountFlops(shape_.Brick().flops());
  if (normed()) {
    PlanNorm(declare, plan);
  } else if (options_.bias) {
    bias_ = declare(FilterVector(shape_, options_.name + ".bias"));
  }
  const GridImages out{
      .samples = in.samples, .height = whole.P(), .width = whole.Q(), .channels = whole.K, .channels_along = in.samples_along()};
  LYCIA_CHECK(conv_->out() == out.sharding()) << conv_->out().ToString() << " ";
  return out;
}

void GridConvUnit::PlanNorm(Declare declare, LayerPlan& plan) {
  const std::int64_t samples = options_.norm_samples, filters = shape_.sizes.filters;
  gamma_ = declare(FilterVector(shape_, options_.norm + ".weight", Initial::kOne));
  beta_ = declare(FilterVector(shape_, options_.norm + ".bias"));
  running_mean_ = plan.State({.name = options_.norm + ".running_mean", .shape = {filters}, .samples = samples});
  running_variance_ =
      plan.State({.name = options_.norm + ".running_var", .shape = {filters}, .initial = Initial::kOne, .samples = samples});
  const TensorSpec of_groups{plan.statistics(), {shape_.sizes.out_samples / samples, filters}};
  convolved_ = plan.Keep(out_spec(), KeepUntil::kInput);
  mean_ = plan.Keep(of_groups, KeepUntil::kInput);
  rstd_ = plan.Keep(of_groups, KeepUntil::kInput);
  sum_d_ = plan.Handoff(of_groups);
  sum_dn_ = plan.Handoff(of_groups);
}

Tensor GridConvUnit::OwnRows(const Tensor& observation) const {
  if (observation.data == nullptr) return {};
  const GridConvSizes& sizes = shape_.sizes;
  const std::int64_t first =
      shape_.grid->coordinate(Axis::kZ) * sizes.samples + shape_.grid->coordinate(shape_.roles.contraction) * sizes.out_samples;
  const TensorSpec rows{observation.dtype, {sizes.out_samples / options_.norm_samples, sizes.filters}};
  char* data = static_cast<char*>(observation.data) + first / options_.norm_samples * sizes.filters * SizeOf(rows.dtype);
  return {data, rows.dtype, rows.shape};
}

void GridConvUnit::Forward(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const {
  Stream& stream = context.stream();
  if (!normed()) {
    LYCIA_CHECK(residual.data == nullptr) << "a residual without a norm ";
    conv_->Forward(context, out, options_.bias ? ConstTensor(context.parameter(bias_)) : ConstTensor());
    if (options_.relu) ReluForward(stream, {.in = out, .out = out});
    return;
  }
  if (!context.stage->training) {
    conv_->Forward(context, out, {});
    BatchNormEvaluate(stream, {.in = out,
                               .gamma = context.parameter(gamma_),
                               .beta = context.parameter(beta_),
                               .mean = context.state(running_mean_),
                               .variance = context.state(running_variance_),
                               .residual = residual,
                               .relu = options_.relu,
                               .out = out});
    return;
  }
  const Tensor &convolved = context.keep(convolved_), &mean = context.keep(mean_);
  conv_->Forward(context, convolved, {});
  BatchNormForward(stream, {.in = convolved,
                            .gamma = context.parameter(gamma_),
                            .beta = context.parameter(beta_),
                            .samples = options_.norm_samples,
                            .residual = residual,
                            .relu = options_.relu,
                            .out = out,
                            .mean = mean,
                            .rstd = context.keep(rstd_),
                            .variance = OwnRows(context.observation(running_variance_))});
  const Tensor observed = OwnRows(context.observation(running_mean_));
  if (observed.data != nullptr) stream.Copy(observed.data, mean.data, mean.bytes());
}

void GridConvUnit::BackwardInput(const LayerContext& context, const InputGradient& args) const {
  BackwardNorm(context, args);
  conv_->BackwardInput(context, args.din);
}

void GridConvUnit::BackwardWeight(const LayerContext& context) const {
  conv_->BackwardWeight(context);
  BackwardVectors(context);
}

void GridConvUnit::Backward(const LayerContext& context, const InputGradient& args) const {
  BackwardNorm(context, args);
  conv_->Backward(context, args.din);
  BackwardVectors(context);
}

void GridConvUnit::BackwardNorm(const LayerContext& context, const InputGradient& args) const {
  Stream& stream = context.stream();
  const Tensor dconvolved = conv_->OutputGradient(context);
  const ConstTensor relu_out = options_.relu ? args.out : ConstTensor();
  if (!normed()) {
    if (options_.relu) {
      ReluBackward(stream, {.dout = args.dout, .out = args.out, .din = dconvolved});
    } else if (args.dout.data != dconvolved.data) {
      stream.Copy(dconvolved.data, args.dout.data, dconvolved.bytes());
    }
    return;
  }
  const Tensor &mean = context.keep(mean_), &rstd = context.keep(rstd_), &convolved = context.keep(convolved_);
  const Tensor &sum_d = context.handoff(sum_d_), &sum_dn = context.handoff(sum_dn_);
  BatchNormBackwardSums(
      stream, {.dout = args.dout, .in = convolved, .mean = mean, .rstd = rstd, .relu_out = relu_out, .sum_d = sum_d, .sum_dn = sum_dn});
  BatchNormBackwardInput(stream, {.dout = args.dout,
                                  .in = convolved,
                                  .gamma = context.parameter(gamma_),
                                  .mean = mean,
                                  .rstd = rstd,
                                  .relu_out = relu_out,
                                  .sum_d = sum_d,
                                  .sum_dn = sum_dn,
                                  .din = dconvolved,
                                  .dresidual = args.dresidual});
}

void GridConvUnit::BackwardVectors(const LayerContext& context) const {
  Stream& stream = context.stream();
  if (normed()) {
    BatchNormBackwardWeight(stream, {.sum_d = context.handoff(sum_d_),
                                     .sum_dn = context.handoff(sum_dn_),
                                     .dgamma = context.gradient(gamma_),
                                     .dbeta = context.gradient(beta_)});
  } else if (options_.bias) {
    BiasGradient(stream, {.dout = AsMatrix(conv_->OutputGradient(context)), .dbias = context.gradient(bias_)});
  }
}

void GridConvUnit::MergeStates(const LayerContext& context) const {
  if (!normed()) return;
  BatchNormUpdateRunning(context.stream(), {.mean = context.observation(running_mean_),
                                            .variance = context.observation(running_variance_),
                                            .rows = options_.norm_samples * shape_.whole.P() * shape_.whole.Q(),
                                            .momentum = options_.norm_momentum,
                                            .running_mean = context.state(running_mean_),
                                            .running_variance = context.state(running_variance_)});
}

}  // namespace lycia
