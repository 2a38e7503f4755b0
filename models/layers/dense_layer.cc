#include "models/layers/dense_layer.h"

#include <cmath>

#include "kernels/activation/relu.h"
#include "kernels/gemm/gemm.h"
#include "models/layers/dropout_mask.h"
#include "models/layers/flat_rows.h"
#include "models/layers/weight_gradient.h"

namespace lycia {
namespace {

// One row of features for every sample.
DropoutMask MaskOf(const StageContext& stage, double rate, std::string_view name, const Shape& rows) {
  return RowDropout(stage, rate, name, {rows.dim(0), 1, rows.dim(1)});
}

}  // namespace

StatusOr<std::vector<TensorSpec>> DenseLayer::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const std::int64_t N = in[0].shape.dim(0), F = in[0].elements() / N, U = options_.units;
  weight_ = plan.Parameter({.name = options_.name + ".weight",
                            .shape = {U, F},
                            .initial = Initial::kNormal,
                            .std = std::sqrt(2.0 / static_cast<double>(F)),
                            .decay = true});
  bias_ = plan.Parameter({.name = options_.name + ".bias", .shape = {U}});
  packed_ = plan.Packed(weight_, true);
  packed_back_ = plan.Packed(weight_, false);
  const TensorSpec out{in[0].dtype, {N, U}};
  plan.KeepInput(KeepUntil::kWeight);
  activated_ = plan.Keep(out, KeepUntil::kInput);
  dactivated_ = plan.Handoff(out);
  plan.CountFlops(2.0 * static_cast<double>(N * F) * static_cast<double>(U));
  return std::vector<TensorSpec>{out};
}

void DenseLayer::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &activated = context.keep(activated_), &out = context.out[0];
  Gemm(stream, {.a = AsMatrix(FlatRows(context.in[0])),
                .b = AsMatrix(context.parameter(weight_)),
                .transpose_b = true,
                .c = AsMatrix(activated),
                .bias = context.parameter(bias_),
                .packed_b = context.packed(packed_)});
  ReluForward(stream, {.in = activated, .out = activated});
  DropoutForward(stream, {.in = activated, .out = out, .mask = MaskOf(*context.stage, options_.dropout, dropout_name_, out.shape)});
}

void DenseLayer::BackwardInput(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &dactivated = context.handoff(dactivated_), &dout = context.dout[0];
  DropoutBackward(stream, {.dout = dout, .din = dactivated, .mask = MaskOf(*context.stage, options_.dropout, dropout_name_, dout.shape)});
  ReluBackward(stream, {.dout = dactivated, .out = context.keep(activated_), .din = dactivated});
  Gemm(stream, {.a = AsMatrix(dactivated),
                .b = AsMatrix(context.parameter(weight_)),
                .c = AsMatrix(FlatRows(context.din[0])),
                .packed_b = context.packed(packed_back_)});
}

void DenseLayer::BackwardWeight(const LayerContext& context) const {
  const Tensor& dactivated = context.handoff(dactivated_);
  WeightGradient(context, dactivated, FlatRows(context.in[0]), weight_);
  BiasGradient(context.stream(), {.dout = AsMatrix(dactivated), .dbias = context.gradient(bias_)});
}

}  // namespace lycia
