#include "models/layers/reused_patches.h"

#include <algorithm>

#include "kernels/activation/relu.h"
#include "kernels/gemm/gemm.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/mapped_gemm.h"
#include "kernels/reuse/measures.h"
#include "kernels/reuse/patch_means.h"
#include "kernels/reuse/scatter.h"

namespace lycia {
namespace {

// What finding, means, summing and scattering move, in bytes.
double BytesOf(const ReusedPatches::Options& options, std::int64_t patches, std::int64_t depth, DType dtype) {
  const auto x = static_cast<double>(patches * depth), y = static_cast<double>(patches * options.shape.K);
  // Find: patches, from the nearest caches. Results: gathered and scattered. Backward: dout read, sums written.
  double elements = x + 5 * y;
  if (options.policy != ReusePolicy::kExact) {
    elements += 2 * (3 * x);                        // forward and backward: patches read, means written, and read by the product
    if (options.input_gradient) elements += 4 * y;  // dout read, means written, read and scattered
  }
  return elements * static_cast<double>(SizeOf(dtype));
}

ConstMatrix Filters(const ConstTensor& weight) {
  const std::int64_t K = weight.shape.dim(0), depth = weight.elements() / K;
  return {weight.data, weight.dtype, K, depth, depth};
}
Matrix Filters(const Tensor& weight) {
  const std::int64_t K = weight.shape.dim(0), depth = weight.elements() / K;
  return {weight.data, weight.dtype, K, depth, depth};
}

}  // namespace

void ReusedPatches::Plan(const Options& options, LayerPlan& plan) {
  planned_ = true;
  const ConvShape& shape = options.shape;
  patches_of_sample_ = shape.P() * shape.Q();
  const std::int64_t M = shape.N * patches_of_sample_, depth = shape.R() * shape.S() * shape.C;
  const DType dtype = plan.compute();
  slot_ = plan.Reuse({.name = options.layer,
                      .rows = M,
                      .depth = depth,
                      .flops = 2 * shape.flops(),  // forward and weight gradient
                      .bytes = BytesOf(options, M, depth, dtype),
                      .patches = true});
  map_ = plan.Keep({DType::kU8, {shape.N, IndexMapBytes(patches_of_sample_)}}, KeepUntil::kWeight);
  const TensorSpec results{dtype, {shape.N, shape.P(), shape.Q(), shape.K}};
  clusters_ = plan.Scratch(results);
  ReuseRule exact, planned{.policy = options.policy};
  planned.projections.rows = kProjections;
  std::int64_t workspace = std::max(BuildPatchMapBytes(exact, dtype, shape), BuildPatchMapBytes(planned, dtype, shape));
  if (options.policy != ReusePolicy::kExact) {
    means_ = plan.Scratch({dtype, {shape.N, patches_of_sample_, depth}});
    if (options.input_gradient) spread_ = plan.Scratch(results);
    workspace = std::max(workspace, ClusterPatchMeansBytes(dtype, shape));
    meter_ = plan.Workspace(static_cast<std::int64_t>(sizeof(ReuseMeter)));
  }
  workspace_ = plan.Workspace(workspace);
  probe_ = plan.Workspace(2 * shape.K * depth * SizeOf(plan.statistics()));
}

IndexMap ReusedPatches::Map(const LayerContext& context) const {
  const Tensor& memory = context.keep(map_);
  return IndexMapIn(memory.data, MapDim::kM, MapKind::kPartition, memory.shape.dim(0) * patches_of_sample_);
}

void ReusedPatches::Means(const LayerContext& context, const ConvShape& shape, const ConstTensor& in, ReuseMeter* meter) const {
  ClusterPatchMeans(context.stream(), {.map = Map(context),
                                       .shape = shape,
                                       .in = in,
                                       .to = AsMatrix(context.temporary(means_)),
                                       .meter = meter,
                                       .workspace = context.temporary(workspace_).data});
}

void ReusedPatches::Find(const LayerContext& context, const ConvShape& shape, const ConstTensor& in) const {
  if (!planned_ || !context.stage->training) return;
  const ReuseSlot& slot = context.reuse(slot_);
  if (slot.use == ReuseUse::kDense) return;
  const IndexMap map = Map(context);
  BuildPatchMap(context.stream(),
                {.shape = shape, .in = in, .rule = slot.rule, .map = map, .workspace = context.temporary(workspace_).data});
  ReuseMeter* meter = nullptr;
  if (slot.use == ReuseUse::kReuse && takes_means(context)) {
    meter = static_cast<ReuseMeter*>(context.temporary(meter_).data);
    Means(context, shape, in, meter);
  }
  CountReuse(context.stream(), {.map = map, .meter = meter, .measures = slot.measures});
}

void ReusedPatches::Forward(const LayerContext& context, MappedConvForwardArgs args, const Tensor& out) const {
  Stream& stream = context.stream();
  args.map = Map(context);
  args.c = AsMatrix(context.temporary(clusters_));
  if (!takes_means(context)) {
    MappedConvForward(stream, args);
    return ScatterRows(stream, {.map = args.map, .c = args.c, .y = AsMatrix(out)});
  }
  MappedGemm(
      stream,
      {.map = args.map,
       .gemm = {.a = AsMatrix(context.temporary(means_)), .b = Filters(args.weight), .transpose_b = true, .c = args.c, .bias = args.bias},
       .scattered = AsMatrix(out)});
  if (args.relu) ReluForward(stream, {.in = out, .out = out});
}

ConstTensor ReusedPatches::OutputGradient(const LayerContext& context, const ConstTensor& dout) const {
  if (!reuses(context) || !takes_means(context)) return dout;
  const IndexMap map = Map(context);
  const Matrix means = AsMatrix(context.temporary(clusters_));
  const Tensor& spread = context.temporary(spread_);
  SegmentSum(context.stream(), {.map = map, .dy = AsMatrix(dout), .to = means, .mean = true});
  ScatterRows(context.stream(), {.map = map, .c = means, .y = AsMatrix(spread)});
  return spread;
}

void ReusedPatches::Multiply(const LayerContext& context, const ConvBackwardWeightArgs& args, const Tensor& sums,
                             const Tensor& dweight) const {
  const IndexMap map = Map(context);
  if (!takes_means(context)) {
    return MappedConvBackwardWeight(context.stream(),
                                    {.map = map, .shape = args.shape, .in = args.in, .sums = AsMatrix(sums), .dweight = dweight});
  }
  MappedGemm(
      context.stream(),
      {.map = map,
       .over = MappedOver::kDepth,
       .gemm = {
           .a = AsMatrix(sums), .transpose_a = true, .b = AsMatrix(context.temporary(means_)), .c = Filters(dweight), .accumulate = true}});
}

void ReusedPatches::BackwardWeight(const LayerContext& context, const ConvBackwardWeightArgs& args) const {
  Stream& stream = context.stream();
  const Tensor& sums = context.temporary(clusters_);
  if (takes_means(context)) Means(context, args.shape, args.in, nullptr);
  SegmentSum(stream, {.map = Map(context), .dy = AsMatrix(args.dout), .to = AsMatrix(sums)});
  Multiply(context, args, sums, args.dweight);
  if (args.dbias.data != nullptr) BiasGradient(stream, {.dout = AsMatrix(args.dout), .dbias = args.dbias});
  if (!context.reuse(slot_).probe) return;
  const Tensor& memory = context.temporary(probe_);
  Tensor dense{memory.data, args.dweight.dtype, args.dweight.shape}, reused = dense;
  if (memory.data != nullptr) reused.data = static_cast<char*>(memory.data) + dense.bytes();
  stream.Zero(dense.data, 2 * dense.bytes());
  ConvBackwardWeight(stream, {.shape = args.shape, .in = args.in, .dout = args.dout, .dweight = dense});
  Multiply(context, args, sums, reused);
  CompareGradients(stream, {.dense = dense, .reused = reused, .measures = context.reuse(slot_).measures});
}

}  // namespace lycia
