#include "models/layers/reused_rows.h"

#include <algorithm>

#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/mapped_gemm.h"
#include "kernels/reuse/measures.h"
#include "models/layers/weight_gradient.h"

namespace lycia {
namespace {

// What hashing, gathering, summing and scattering move, in elements of a row of `depth` and results of `width`.
double BytesOf(const ReusedRows::Options& options, std::int64_t rows, std::int64_t depth, DType dtype) {
  const auto width = static_cast<double>(options.widths.back()), elements = static_cast<double>(rows);
  const double x = elements * static_cast<double>(depth), y = elements * width;
  // Hash: x. Gather: x, and c written. Scatter: c read, y written. Segment sum of dy: y, and s written. Gradient of x: scattered.
  return (3 * x + 2 * y + 2 * y + 2 * x) * static_cast<double>(SizeOf(dtype));
}

double FlopsOf(const ReusedRows::Options& options, std::int64_t rows, std::int64_t depth) {
  const bool sums_suffice = options.policy != ReusePolicy::kExact || options.row_wise_before;
  double flops = 0;
  for (const std::int64_t width : options.widths) {
    flops += 2.0 * static_cast<double>(rows) * static_cast<double>(depth) * static_cast<double>(width);
    depth = width;
  }
  return flops * (sums_suffice ? 3 : 2);  // forward and weight gradient; the input's too
}

}  // namespace

void ReusedRows::Plan(const Options& options, const TensorSpec& rows, LayerPlan& plan) {
  options_ = options;
  planned_ = true;
  const std::int64_t B = rows.shape.dim(0), K = rows.shape.dim(-1), M = rows.elements() / K;
  rows_of_sample_ = M / B;
  slot_ = plan.Reuse(
      {.name = options.name, .rows = M, .depth = K, .flops = FlopsOf(options, M, K), .bytes = BytesOf(options, M, K, rows.dtype)});
  map_bytes_ = IndexMapBytes(rows_of_sample_);  // of so many samples together more than their map needs
  map_ = plan.Keep({DType::kU8, {B, map_bytes_}}, KeepUntil::kWeight);
  rows_ = plan.Scratch(rows);
  ReuseRule exact, planned{.policy = options.policy};
  planned.projections.rows = kProjections;
  workspace_ = plan.Workspace(
      std::max({BuildIndexMapBytes(exact, rows.dtype, M), BuildIndexMapBytes(planned, rows.dtype, M), ClusterMeansBytes(M)}));
  meter_ = plan.Workspace(static_cast<std::int64_t>(sizeof(ReuseMeter)));
  const std::int64_t widest = std::max(K, *std::max_element(options.widths.begin(), options.widths.end()));
  probe_ = plan.Workspace(2 * widest * kProbeColumns * SizeOf(plan.statistics()));
}

IndexMap ReusedRows::Map(const LayerContext& context) const {
  const Tensor& memory = context.keep(map_);
  return IndexMapIn(memory.data, MapDim::kM, MapKind::kPartition, memory.shape.dim(0) * rows_of_sample_);
}

void ReusedRows::Forward(const LayerContext& context, const Tensor& kept) const {
  if (!planned_) return;
  const ReuseSlot& slot = context.reuse(slot_);
  if (slot.use == ReuseUse::kDense || !context.stage->training) return;
  Stream& stream = context.stream();
  const Tensor& rows = Rows(context, kept);
  const IndexMap map = Map(context);
  BuildIndexMap(stream, {.rows = AsMatrix(rows), .rule = slot.rule, .map = map, .workspace = context.temporary(workspace_).data});
  auto* meter = static_cast<ReuseMeter*>(context.temporary(meter_).data);
  const bool exact = slot.rule.policy == ReusePolicy::kExact;
  if (slot.use == ReuseUse::kReuse) {
    if (exact) {
      GatherRows(stream, {.map = map, .x = AsMatrix(rows), .to = AsMatrix(kept)});
    } else {
      ClusterMeans(
          stream, {.map = map, .x = AsMatrix(rows), .to = AsMatrix(kept), .meter = meter, .workspace = context.temporary(workspace_).data});
    }
  }
  CountReuse(stream, {.map = map, .meter = exact || slot.use != ReuseUse::kReuse ? nullptr : meter, .measures = slot.measures});
}

void ReusedRows::Multiply(const LayerContext& context, const GemmArgs& args) const {
  if (!reuses(context)) return Gemm(context.stream(), args);
  MappedGemm(context.stream(), {.map = Map(context), .over = MappedOver::kRows, .gemm = args});
}

void ReusedRows::MultiplyAndScatter(const LayerContext& context, const GemmArgs& args, const Tensor& y) const {
  MappedGemm(context.stream(), {.map = Map(context), .over = MappedOver::kRows, .gemm = args, .scattered = AsMatrix(y)});
}

void ReusedRows::WeightGradient(const LayerContext& context, const Tensor& x, const Tensor& dy, ParameterHandle weight) const {
  if (!reuses(context)) return lycia::WeightGradient(context, x, dy, weight);
  const LayerContext::SumInto dw = context.gradient_sum(weight);
  MappedGemm(context.stream(),
             {.map = Map(context),
              .over = MappedOver::kDepth,
              .gemm = {.a = AsMatrix(x), .transpose_a = true, .b = AsMatrix(dy), .c = dw.c, .accumulate = dw.accumulate}});
}

void ReusedRows::BiasGradient(const LayerContext& context, const Tensor& dy, ParameterHandle bias) const {
  const Tensor& dbias = context.gradient(bias);
  if (!reuses(context)) return lycia::BiasGradient(context.stream(), {.dout = AsMatrix(dy), .dbias = dbias});
  MappedBiasGradient(context.stream(), {.map = Map(context), .dout = AsMatrix(dy), .dbias = dbias});
}

void ReusedRows::Compare(const LayerContext& context, const Probe& probe) const {
  Stream& stream = context.stream();
  const Tensor& memory = context.temporary(probe_);
  const DType dtype = context.gradients[0].dtype;
  const std::int64_t K = probe.dense_a.cols, columns = std::min(probe.dense_b.cols, kProbeColumns);
  const auto first_columns = [&](ConstMatrix b) {
    b.cols = columns;
    return b;
  };
  Tensor dense{memory.data, dtype, {K, columns}}, reused = dense;
  if (memory.data != nullptr) reused.data = static_cast<char*>(memory.data) + dense.bytes();
  Gemm(stream, {.a = probe.dense_a, .transpose_a = true, .b = first_columns(probe.dense_b), .c = AsMatrix(dense)});
  MappedGemm(stream, {.map = Map(context),
                      .over = MappedOver::kDepth,
                      .gemm = {.a = probe.reused_a, .transpose_a = true, .b = first_columns(probe.reused_b), .c = AsMatrix(reused)}});
  CompareGradients(stream, {.dense = dense, .reused = reused, .measures = context.reuse(slot_).measures});
}

}  // namespace lycia
