#include "models/layers/conv_unit.h"

#include <cmath>

#include "kernels/activation/relu.h"
#include "runtime/core/check.h"

namespace lycia {

ConvShape ConvUnit::ShapeFor(const Shape& in) const {
  const auto axis = [&](std::int64_t size) {
    const std::int64_t pad = options_.filter / 2;
    return ConvAxis{.in = size, .filter = options_.filter, .stride = options_.stride, .pad_before = pad, .pad_after = pad};
  };
  return {.N = in.dim(0),
          .C = in.dim(3),
          .K = options_.filters,
          .height = axis(in.dim(1)),
          .width = axis(in.dim(2)),
          .groups = options_.groups};
}

StatusOr<TensorSpec> ConvUnit::Plan(const TensorSpec& in, LayerPlan& plan) {
  shape_ = ShapeFor(in.shape);
  LYCIA_RETURN_IF_ERROR(CheckConvShape(shape_));
  const std::int64_t K = shape_.K;
  const double fan_out = static_cast<double>(K * shape_.R() * shape_.S()) / static_cast<double>(options_.groups);
  weight_ = plan.Parameter({.name = options_.name + ".weight",
                            .shape = {K, shape_.R(), shape_.S(), shape_.group_C()},
                            .initial = Initial::kNormal,
                            .std = std::sqrt(2 / fan_out),
                            .decay = true});
  packed_ = plan.PackedConv(weight_, ConvUse::kForward, shape_);
  if (options_.input_gradient) packed_back_ = plan.PackedConv(weight_, ConvUse::kBackwardInput, shape_);
  if (options_.bias) bias_ = plan.Parameter({.name = options_.name + ".bias", .shape = {K}});
  const TensorSpec out{in.dtype, {shape_.N, shape_.P(), shape_.Q(), K}};
  dconvolved_ = plan.Handoff(out);
  plan.CountFlops(shape_.flops());
  if (options_.groups == 1 && options_.reuse.AppliesTo(options_.name)) {
    reuse_.Plan({.layer = options_.name, .policy = options_.reuse.policy, .shape = shape_, .input_gradient = options_.input_gradient},
                plan);
  }
  if (!normed()) return out;

  if (shape_.N % options_.norm_samples != 0) {
    return InvalidArgument("a batch norm over ", options_.norm_samples, " samples (model.norm_samples) does not divide ", shape_.N,
                           " samples of a micro-batch (train.micro_batch); make it a divisor");
  }
  norm_.Plan({.name = options_.norm,
              .gamma = plan.Parameter({.name = options_.norm + ".weight", .shape = {K}, .initial = Initial::kOne}),
              .beta = plan.Parameter({.name = options_.norm + ".bias", .shape = {K}}),
              .samples = options_.norm_samples,
              .momentum = options_.norm_momentum,
              .relu = options_.relu,
              .images = out},
             plan);
  folded_ = plan.Workspace(2 * K * SizeOf(plan.statistics()));
  return out;
}

void ConvUnit::Forward(const LayerContext& context, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) const {
  if (!normed()) return Convolve(context, in, residual, out);
  if (!context.stage->training) return Evaluate(context, in, residual, out);
  Convolve(context, in, {}, norm_.Convolved(context));
  norm_.Forward(context, residual, out);
}

void ConvUnit::Convolve(const LayerContext& context, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) const {
  const ConvShape shape = ShapeFor(in.shape);
  const ConstTensor bias = options_.bias ? ConstTensor(context.parameter(bias_)) : ConstTensor();
  const bool relu = options_.relu && !normed();
  reuse_.Find(context, shape, in);
  if (reuse_.reuses(context)) {
    LYCIA_CHECK(residual.data == nullptr) << options_.name << " adds a residual without a norm, whose gradient nobody takes ";
    reuse_.Forward(
        context,
        {.shape = shape, .in = in, .weight = context.parameter(weight_), .packed = context.packed(packed_), .bias = bias, .relu = relu},
        out);
    return;
  }
  ConvForward(context.stream(), {.shape = shape,
                                 .in = in,
                                 .weight = context.parameter(weight_),
                                 .packed = context.packed(packed_),
                                 .out = out,
                                 .bias = bias,
                                 .residual = residual,
                                 .relu = relu});
}

void ConvUnit::Evaluate(const LayerContext& context, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) const {
  const Tensor& folded = context.temporary(folded_);
  const Tensor scale{folded.data, ArithmeticDType(out.dtype), {shape_.K}};
  Tensor bias = scale;
  if (bias.data != nullptr) bias.data = static_cast<char*>(scale.data) + scale.bytes();
  norm_.Fold(context, scale, bias);
  ConvForward(context.stream(), {.shape = ShapeFor(in.shape),
                                 .in = in,
                                 .weight = context.parameter(weight_),
                                 .packed = context.packed(packed_),
                                 .out = out,
                                 .scale = scale,
                                 .bias = bias,
                                 .residual = residual,
                                 .relu = options_.relu});
}

void ConvUnit::BackwardInput(const LayerContext& context, const InputGradient& args) const {
  Stream& stream = context.stream();
  const Tensor& dconvolved = context.handoff(dconvolved_);
  if (normed()) {
    norm_.BackwardInput(context, {.dout = args.dout, .out = args.out, .dconvolved = dconvolved, .dresidual = args.dresidual});
  } else if (options_.relu) {
    ReluBackward(stream, {.dout = args.dout, .out = args.out, .din = dconvolved});
  } else {
    stream.Copy(dconvolved.data, args.dout.data, dconvolved.bytes());
  }
  if (!options_.input_gradient) return;
  ConvBackwardInput(stream, {.shape = ShapeFor(args.din.shape),
                             .dout = reuse_.OutputGradient(context, dconvolved),
                             .weight = context.parameter(weight_),
                             .packed = context.packed(packed_back_),
                             .din = args.din,
                             .accumulate = args.accumulate});
}

void ConvUnit::BackwardWeight(const LayerContext& context, const ConstTensor& in) const {
  const ConvBackwardWeightArgs args{.shape = ShapeFor(in.shape),
                                    .in = in,
                                    .dout = context.handoff(dconvolved_),
                                    .dweight = context.gradient(weight_),
                                    .dbias = options_.bias ? context.gradient(bias_) : Tensor{}};
  if (reuse_.reuses(context)) {
    reuse_.BackwardWeight(context, args);
  } else {
    ConvBackwardWeight(context.stream(), args);
  }
  if (normed()) norm_.BackwardWeight(context);
}

void ConvUnit::MergeStates(const LayerContext& context) const {
  if (normed()) norm_.MergeStates(context);
}

}  // namespace lycia
