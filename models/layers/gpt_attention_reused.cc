// Queries, keys and values of one row a cluster: scattered before the rows of a sample are mixed.
#include "models/layers/gpt_attention.h"
#include "models/layers/optional_bias.h"
#include "models/layers/weight_gradient.h"

namespace lycia {

void GptAttention::ProjectQkvReused(const LayerContext& context) const {
  const Tensor& clusters = context.keep(normed_);
  norm_.Forward(context, reuse_.scratch(context));
  reuse_.Forward(context, clusters);
  reuse_.MultiplyAndScatter(context,
                            {.a = AsMatrix(clusters),
                             .b = AsMatrix(context.parameter(wqkv_)),
                             .c = AsMatrix(context.temporary(qkv_rows_)),
                             .bias = OptionalBias(context, bqkv_),
                             .packed_b = context.packed(packed_qkv_)},
                            context.keep(qkv_));
}

void GptAttention::BackwardQkvInputReused(const LayerContext& context, const Tensor& dqkv) const {
  Stream& stream = context.stream();
  const Tensor &sums = context.handoff(dqkv_), &dnormed = context.handoff(dnormed_), &dclusters = context.temporary(dmixed_);
  const IndexMap map = reuse_.Map(context);
  SegmentSum(stream, {.map = map, .dy = AsMatrix(dqkv), .to = AsMatrix(sums)});
  if (reuse_.probes(context)) {
    norm_.Forward(context, reuse_.scratch(context));
    reuse_.Compare(context, {.dense_a = AsMatrix(reuse_.scratch(context)),
                             .dense_b = AsMatrix(dqkv),
                             .reused_a = AsMatrix(context.keep(normed_)),
                             .reused_b = AsMatrix(sums)});
  }
  reuse_.Multiply(context, {.a = AsMatrix(sums),
                            .b = AsMatrix(context.parameter(wqkv_)),
                            .transpose_b = true,
                            .c = AsMatrix(dclusters),
                            .packed_b = context.packed(packed_qkv_back_)});
  ScatterRows(stream, {.map = map, .c = AsMatrix(dclusters), .y = AsMatrix(dnormed), .mean = true});
}

void GptAttention::BackwardQkvWeight(const LayerContext& context) const {
  const Tensor &rows = context.keep(normed_), &dqkv = context.handoff(dqkv_);
  if (!reuse_.reuses(context)) {
    WeightGradient(context, rows, dqkv, wqkv_, bqkv_);
  } else if (reuse_.sums_suffice(context)) {
    reuse_.WeightGradient(context, rows, dqkv, wqkv_);
    if (config_.biases()) reuse_.BiasGradient(context, dqkv, bqkv_);
  } else {
    const Tensor& sums = context.temporary(qkv_rows_);
    SegmentSum(context.stream(), {.map = reuse_.Map(context), .dy = AsMatrix(dqkv), .to = AsMatrix(sums)});
    reuse_.WeightGradient(context, rows, sums, wqkv_);
    OptionalBiasGradient(context, dqkv, bqkv_);
  }
}

}  // namespace lycia
