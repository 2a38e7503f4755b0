#include "models/layers/image_head.h"

#include <cmath>

#include "kernels/gemm/gemm.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/label_hits.h"
#include "models/layers/flat_rows.h"
#include "models/layers/weight_gradient.h"

namespace lycia {
namespace {

// Images of one pixel.
Tensor AsPixels(const Tensor& rows) { return {rows.data, rows.dtype, {rows.shape.dim(0), 1, 1, rows.shape.dim(1)}}; }

}  // namespace

PoolShape ImageHead::WholeImage(const Shape& in) const {
  return {
      .N = in.dim(0), .C = in.dim(3), .height = {.in = in.dim(1), .filter = in.dim(1)}, .width = {.in = in.dim(2), .filter = in.dim(2)}};
}

Tensor ImageHead::Features(const LayerContext& context) const { return average_ ? context.keep(averaged_) : FlatRows(context.in[0]); }

StatusOr<std::vector<TensorSpec>> ImageHead::Plan(std::span<const TensorSpec> in, LayerPlan& plan) {
  const std::int64_t N = in[0].shape.dim(0), F = average_ ? in[0].shape.dim(3) : in[0].elements() / N;
  weight_ = plan.Parameter({.name = name_ + ".weight",
                            .shape = {classes_, F},
                            .initial = Initial::kNormal,
                            .std = std::sqrt(1 / (3.0 * static_cast<double>(F))),
                            .decay = true});
  bias_ = plan.Parameter({.name = name_ + ".bias", .shape = {classes_}});
  packed_ = plan.Packed(weight_, true);
  packed_back_ = plan.Packed(weight_, false);
  if (average_) {
    averaged_ = plan.Keep({in[0].dtype, {N, F}}, KeepUntil::kWeight);
    daveraged_ = plan.Scratch({in[0].dtype, {N, F}});
  } else {
    plan.KeepInput(KeepUntil::kWeight);
  }
  dlogits_ = plan.Keep({plan.compute(), {N, 1, classes_}}, KeepUntil::kWeight);
  plan.ReadLabels({DType::kI32, {N, 1}});
  plan.CountFlops(2.0 * static_cast<double>(N * F) * static_cast<double>(classes_));
  return std::vector<TensorSpec>{};
}

void ImageHead::Forward(const LayerContext& context) const {
  Stream& stream = context.stream();
  const StageContext& stage = *context.stage;
  const Tensor& logits = context.keep(dlogits_);
  if (average_) {
    AveragePoolForward(stream, {.shape = WholeImage(context.in[0].shape), .in = context.in[0], .out = AsPixels(context.keep(averaged_))});
  }
  Gemm(stream, {.a = AsMatrix(Features(context)),
                .b = AsMatrix(context.parameter(weight_)),
                .transpose_b = true,
                .c = AsMatrix(logits),
                .bias = context.parameter(bias_),
                .packed_b = context.packed(packed_)});
  if (stage.logits.data != nullptr) stream.Copy(stage.logits.data, logits.data, logits.bytes());
  if (stage.sample_hits != nullptr) LabelHits(stream, {.logits = logits, .labels = context.labels, .sample_hits = stage.sample_hits});
  CrossEntropy(stream, {.logits = logits,
                        .labels = context.labels,
                        .sample_losses = stage.sample_losses,
                        .dlogits = stage.training ? logits : Tensor{},
                        .scale = stage.gradient_scale});
}

void ImageHead::BackwardInput(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor dfeatures = average_ ? context.temporary(daveraged_) : FlatRows(context.din[0]);
  Gemm(stream, {.a = AsMatrix(context.keep(dlogits_)),
                .b = AsMatrix(context.parameter(weight_)),
                .c = AsMatrix(dfeatures),
                .packed_b = context.packed(packed_back_)});
  if (!average_) return;
  AveragePoolBackward(stream, {.shape = WholeImage(context.din[0].shape), .dout = AsPixels(dfeatures), .din = context.din[0]});
}

void ImageHead::BackwardWeight(const LayerContext& context) const {
  const Tensor& dlogits = context.keep(dlogits_);
  WeightGradient(context, dlogits, Features(context), weight_);
  BiasGradient(context.stream(), {.dout = AsMatrix(dlogits), .dbias = context.gradient(bias_)});
}

}  // namespace lycia
