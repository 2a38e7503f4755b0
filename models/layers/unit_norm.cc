#include "models/layers/unit_norm.h"

#include "kernels/norm/batch_norm.h"

namespace lycia {

void UnitNorm::Plan(const Args& args, LayerPlan& plan) {
  args_ = args;
  const std::int64_t N = args.images.shape.dim(0), K = args.images.shape.dim(3);
  running_mean_ = plan.State({.name = args.name + ".running_mean", .shape = {K}, .samples = args.samples, .along = args.along});
  running_variance_ = plan.State(
      {.name = args.name + ".running_var", .shape = {K}, .initial = Initial::kOne, .samples = args.samples, .along = args.along});
  const TensorSpec of_groups{plan.statistics(), {N / args.samples, K}};
  convolved_ = plan.Keep(args.images, KeepUntil::kInput);
  mean_ = plan.Keep(of_groups, KeepUntil::kInput);
  rstd_ = plan.Keep(of_groups, KeepUntil::kInput);
  sum_d_ = plan.Handoff(of_groups);
  sum_dn_ = plan.Handoff(of_groups);
}

Tensor UnitNorm::OwnRows(const Tensor& observation, const Tensor& statistics) const {
  if (observation.data == nullptr) return {};
  const std::int64_t row_bytes = statistics.shape.dim(1) * SizeOf(statistics.dtype);
  return {static_cast<char*>(observation.data) + args_.first_sample / args_.samples * row_bytes, statistics.dtype, statistics.shape};
}

void UnitNorm::Forward(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const {
  Stream& stream = context.stream();
  const Tensor& mean = context.keep(mean_);
  BatchNormForward(stream, {.in = Convolved(context),
                            .gamma = context.parameter(args_.gamma),
                            .beta = context.parameter(args_.beta),
                            .samples = args_.samples,
                            .residual = residual,
                            .relu = args_.relu,
                            .out = out,
                            .mean = mean,
                            .rstd = context.keep(rstd_),
                            .variance = OwnRows(context.observation(running_variance_), mean)});
  const Tensor observed = OwnRows(context.observation(running_mean_), mean);
  if (observed.data != nullptr) stream.Copy(observed.data, mean.data, mean.bytes());
}

void UnitNorm::Evaluate(const LayerContext& context, const ConstTensor& residual, const Tensor& out) const {
  BatchNormEvaluate(context.stream(), {.in = out,
                                       .gamma = context.parameter(args_.gamma),
                                       .beta = context.parameter(args_.beta),
                                       .mean = context.state(running_mean_),
                                       .variance = context.state(running_variance_),
                                       .residual = residual,
                                       .relu = args_.relu,
                                       .out = out});
}

void UnitNorm::Fold(const LayerContext& context, const Tensor& scale, const Tensor& bias) const {
  BatchNormFold(context.stream(), {.gamma = context.parameter(args_.gamma),
                                   .beta = context.parameter(args_.beta),
                                   .mean = context.state(running_mean_),
                                   .variance = context.state(running_variance_),
                                   .scale = scale,
                                   .bias = bias});
}

void UnitNorm::BackwardInput(const LayerContext& context, const InputGradient& args) const {
  Stream& stream = context.stream();
  const Tensor &mean = context.keep(mean_), &rstd = context.keep(rstd_), &convolved = Convolved(context);
  const Tensor &sum_d = context.handoff(sum_d_), &sum_dn = context.handoff(sum_dn_);
  const ConstTensor relu_out = args_.relu ? args.out : ConstTensor();
  BatchNormBackwardSums(
      stream, {.dout = args.dout, .in = convolved, .mean = mean, .rstd = rstd, .relu_out = relu_out, .sum_d = sum_d, .sum_dn = sum_dn});
  BatchNormBackwardInput(stream, {.dout = args.dout,
                                  .in = convolved,
                                  .gamma = context.parameter(args_.gamma),
                                  .mean = mean,
                                  .rstd = rstd,
                                  .relu_out = relu_out,
                                  .sum_d = sum_d,
                                  .sum_dn = sum_dn,
                                  .din = args.dconvolved,
                                  .dresidual = args.dresidual});
}

void UnitNorm::BackwardWeight(const LayerContext& context) const {
  BatchNormBackwardWeight(context.stream(), {.sum_d = context.handoff(sum_d_),
                                             .sum_dn = context.handoff(sum_dn_),
                                             .dgamma = context.gradient(args_.gamma),
                                             .dbeta = context.gradient(args_.beta)});
}

void UnitNorm::MergeStates(const LayerContext& context) const {
  const Shape& images = args_.images.shape;
  BatchNormUpdateRunning(context.stream(), {.mean = context.observation(running_mean_),
                                            .variance = context.observation(running_variance_),
                                            .rows = args_.samples * images.dim(1) * images.dim(2),
                                            .momentum = args_.momentum,
                                            .running_mean = context.state(running_mean_),
                                            .running_variance = context.state(running_variance_)});
}

}  // namespace lycia
