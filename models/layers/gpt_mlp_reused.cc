// GPT-2's MLP block with one row a cluster from its norm to its residual: rows are scattered once, at the end of two products.
#include <algorithm>

#include "models/layers/dropout_mask.h"
#include "models/layers/gpt_mlp.h"

namespace lycia {

void GptMlp::ForwardReused(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &x = context.in[0], &clusters = context.keep(normed_);
  const DropoutMask mask = OutputMask(context);
  const Tensor& projected = context.temporary(mask.rate == 0 ? sums_ : projected_);
  norm_.Forward(context, reuse_.scratch(context));
  reuse_.Forward(context, clusters);
  reuse_.Multiply(context, {.a = AsMatrix(clusters),
                            .b = AsMatrix(context.parameter(wfc_)),
                            .c = AsMatrix(context.keep(activated_)),
                            .bias = context.parameter(bfc_),
                            .packed_b = context.packed(packed_fc_),
                            .gelu = true,
                            .pre_activation = AsMatrix(context.keep(hidden_))});
  reuse_.Multiply(context, {.a = AsMatrix(context.keep(activated_)),
                            .b = AsMatrix(context.parameter(wproj_)),
                            .c = AsMatrix(projected),
                            .bias = context.parameter(bproj_),
                            .packed_b = context.packed(packed_proj_)});
  const IndexMap map = reuse_.Map(context);
  if (mask.rate == 0) {
    ScatterRows(stream, {.map = map, .c = AsMatrix(projected), .y = AsMatrix(context.out[0]), .residual = AsMatrix(x)});
    return;
  }
  ScatterRows(stream, {.map = map, .c = AsMatrix(projected), .y = AsMatrix(reuse_.scratch(context))});
  DropoutForward(stream, {.in = reuse_.scratch(context), .residual = x, .out = context.out[0], .mask = mask});
}

void GptMlp::BackwardInputReused(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &dproj = context.handoff(dproj_), &dhidden = context.handoff(dhidden_), &dnormed = context.handoff(dnormed_);
  const Tensor& projected = context.temporary(projected_);
  const IndexMap map = reuse_.Map(context);
  const DropoutMask mask = OutputMask(context);
  GemmArgs to_hidden{.a = AsMatrix(dproj),
                     .b = AsMatrix(context.parameter(wproj_)),
                     .transpose_b = true,
                     .c = AsMatrix(dhidden),
                     .packed_b = context.packed(packed_proj_back_),
                     .gelu_input = AsMatrix(context.keep(hidden_))};
  GemmArgs to_normed{.a = AsMatrix(dhidden),
                     .b = AsMatrix(context.parameter(wfc_)),
                     .transpose_b = true,
                     .c = AsMatrix(dnormed),
                     .packed_b = context.packed(packed_fc_back_)};
  if (!reuse_.sums_suffice(context)) {  // each row has a gradient of its own
    const Tensor& hidden = context.temporary(hidden_rows_);
    DropoutBackward(stream, {.dout = context.dout[0], .din = dproj, .mask = mask});
    ScatterRows(stream, {.map = map, .c = AsMatrix(context.keep(hidden_)), .y = AsMatrix(hidden)});
    to_hidden.gelu_input = AsMatrix(hidden);
    Gemm(stream, to_hidden);
    Gemm(stream, to_normed);
    return BackwardNorm(context);
  }
  ConstTensor dy = context.dout[0];
  if (mask.rate != 0) {
    DropoutBackward(stream, {.dout = dy, .din = reuse_.scratch(context), .mask = mask});
    dy = reuse_.scratch(context);
  }
  SegmentSum(stream, {.map = map, .dy = AsMatrix(dy), .to = AsMatrix(dproj)});
  reuse_.Multiply(context, to_hidden);
  if (reuse_.probes(context)) Probe(context, dy);
  to_normed.c = AsMatrix(projected);
  reuse_.Multiply(context, to_normed);
  ScatterRows(stream, {.map = map, .c = AsMatrix(projected), .y = AsMatrix(dnormed), .mean = true});
  BackwardNorm(context);
}

// The dense gradient of the first product's first columns: their hidden units are computed for all rows again.
void GptMlp::Probe(const LayerContext& context, const ConstTensor& dy) const {
  Stream& stream = context.stream();
  const Tensor& normed = context.handoff(dnormed_);  // not written yet
  const Tensor& scratch = context.temporary(projected_);
  const std::int64_t C = scratch.shape.dim(-1), columns = std::min({ReusedRows::kProbeColumns, C / 2, config_.ffn});
  if (columns == 0) return;
  norm_.Forward(context, normed);
  Matrix hidden = AsMatrix(scratch), dhidden = hidden;
  hidden.cols = dhidden.cols = columns;
  if (dhidden.data != nullptr) dhidden.data = static_cast<char*>(dhidden.data) + columns * SizeOf(scratch.dtype);
  ConstMatrix wfc = AsMatrix(context.parameter(wfc_)), wproj = AsMatrix(context.parameter(wproj_));
  wfc.cols = wproj.rows = columns;
  ConstTensor bias = context.parameter(bfc_);
  bias.shape = {columns};
  Gemm(stream, {.a = AsMatrix(normed), .b = wfc, .c = hidden, .bias = bias});
  Gemm(stream, {.a = AsMatrix(dy), .b = wproj, .transpose_b = true, .c = dhidden, .gelu_input = hidden});
  ConstMatrix reused = AsMatrix(context.handoff(dhidden_));
  reused.cols = columns;
  reuse_.Compare(context,
                 {.dense_a = AsMatrix(normed), .dense_b = dhidden, .reused_a = AsMatrix(context.keep(normed_)), .reused_b = reused});
}

void GptMlp::BackwardWeightReused(const LayerContext& context) const {
  Stream& stream = context.stream();
  const Tensor &dproj = context.handoff(dproj_), &dhidden = context.handoff(dhidden_);
  if (reuse_.sums_suffice(context)) {
    reuse_.WeightGradient(context, context.keep(activated_), dproj, wproj_);
    reuse_.BiasGradient(context, dproj, bproj_);
    reuse_.WeightGradient(context, context.keep(normed_), dhidden, wfc_);
    reuse_.BiasGradient(context, dhidden, bfc_);
    return;
  }
  const IndexMap map = reuse_.Map(context);
  const Tensor &sums = context.temporary(projected_), &hidden_sums = context.temporary(hidden_rows_);
  SegmentSum(stream, {.map = map, .dy = AsMatrix(dproj), .to = AsMatrix(sums)});
  reuse_.WeightGradient(context, context.keep(activated_), sums, wproj_);
  BiasGradient(stream, {.dout = AsMatrix(dproj), .dbias = context.gradient(bproj_)});
  SegmentSum(stream, {.map = map, .dy = AsMatrix(dhidden), .to = AsMatrix(hidden_sums)});
  reuse_.WeightGradient(context, context.keep(normed_), hidden_sums, wfc_);
  BiasGradient(stream, {.dout = AsMatrix(dhidden), .dbias = context.gradient(bfc_)});
}

}  // namespace lycia
