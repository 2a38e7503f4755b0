#include "models/layers/reused_patches.h"

#include <algorithm>

#include "kernels/gemm/gemm.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/measures.h"
#include "kernels/reuse/patch_meter.h"
#include "kernels/reuse/scatter.h"

namespace lycia {

void ReusedPatches::Plan(const std::string& layer, ReusePolicy policy, const ConvShape& shape, LayerPlan& plan) {
  planned_ = true;
  patches_of_sample_ = shape.P() * shape.Q();
  const std::int64_t M = shape.N * patches_of_sample_, depth = shape.R() * shape.S() * shape.C;
  // Hash: patches, from the second-level cache. Forward: results gathered and scattered. Backward: dout read, sums written.
  const double bytes = static_cast<double>(M * (depth + 5 * shape.K)) * static_cast<double>(SizeOf(plan.compute()));
  slot_ = plan.Reuse({.name = layer, .rows = M, .depth = depth, .flops = 2 * shape.flops(), .bytes = bytes});
  map_ = plan.Keep({DType::kU8, {shape.N, IndexMapBytes(patches_of_sample_)}}, KeepUntil::kWeight);
  clusters_ = plan.Scratch({plan.compute(), {shape.N, shape.P(), shape.Q(), shape.K}});
  ReuseRule exact, planned{.policy = policy};
  planned.projections.rows = kProjections;
  workspace_ = plan.Workspace(std::max(
      {BuildPatchMapBytes(exact, plan.compute(), shape), BuildPatchMapBytes(planned, plan.compute(), shape), MeasurePatchesBytes(shape)}));
  meter_ = plan.Workspace(static_cast<std::int64_t>(sizeof(ReuseMeter)));
  probe_ = plan.Workspace(2 * shape.K * depth * SizeOf(plan.statistics()));
}

IndexMap ReusedPatches::Map(const LayerContext& context) const {
  const Tensor& memory = context.keep(map_);
  return IndexMapIn(memory.data, MapDim::kM, MapKind::kPartition, memory.shape.dim(0) * patches_of_sample_);
}

void ReusedPatches::Find(const LayerContext& context, const ConvShape& shape, const ConstTensor& in) const {
  if (!planned_ || !context.stage->training) return;
  const ReuseSlot& slot = context.reuse(slot_);
  if (slot.use == ReuseUse::kDense) return;
  const IndexMap map = Map(context);
  void* workspace = context.temporary(workspace_).data;
  BuildPatchMap(context.stream(), {.shape = shape, .in = in, .rule = slot.rule, .map = map, .workspace = workspace});
  auto* meter = static_cast<ReuseMeter*>(context.temporary(meter_).data);
  const bool exact = slot.rule.policy == ReusePolicy::kExact;
  if (!exact) MeasurePatches(context.stream(), {.map = map, .shape = shape, .in = in, .meter = meter, .workspace = workspace});
  CountReuse(context.stream(), {.map = map, .meter = exact ? nullptr : meter, .measures = slot.measures});
}

void ReusedPatches::Forward(const LayerContext& context, MappedConvForwardArgs args, const Tensor& out) const {
  args.map = Map(context);
  args.c = AsMatrix(context.temporary(clusters_));
  MappedConvForward(context.stream(), args);
  ScatterRows(context.stream(), {.map = args.map, .c = args.c, .y = AsMatrix(out)});
}

void ReusedPatches::BackwardWeight(const LayerContext& context, const ConvBackwardWeightArgs& args) const {
  Stream& stream = context.stream();
  const IndexMap map = Map(context);
  const Matrix sums = AsMatrix(context.temporary(clusters_));
  SegmentSum(stream, {.map = map, .dy = AsMatrix(args.dout), .to = sums});
  MappedConvBackwardWeight(stream, {.map = map, .shape = args.shape, .in = args.in, .sums = sums, .dweight = args.dweight});
  if (args.dbias.data != nullptr) BiasGradient(stream, {.dout = AsMatrix(args.dout), .dbias = args.dbias});
  if (!context.reuse(slot_).probe) return;
  const Tensor& memory = context.temporary(probe_);
  Tensor dense{memory.data, args.dweight.dtype, args.dweight.shape}, reused = dense;
  if (memory.data != nullptr) reused.data = static_cast<char*>(memory.data) + dense.bytes();
  stream.Zero(dense.data, 2 * dense.bytes());
  ConvBackwardWeight(stream, {.shape = args.shape, .in = args.in, .dout = args.dout, .dweight = dense});
  MappedConvBackwardWeight(stream, {.map = map, .shape = args.shape, .in = args.in, .sums = sums, .dweight = reused});
  CompareGradients(stream, {.dense = dense, .reused = reused, .measures = context.reuse(slot_).measures});
}

}  // namespace lycia
