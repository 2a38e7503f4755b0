#include "launch/grid_count.h"

#include <algorithm>

#include "models/grid_dry_run.h"

namespace lycia {
namespace {

// One axis of activations or statistics, of one layer.
void AddAlong(const GridTraffic& traffic, GridGroup group, Tag tag, std::int64_t layers, std::int64_t& bytes, std::int64_t& calls) {
  const Counter sum = traffic.sum(group, tag);
  bytes += sum.bytes / layers;
  calls += sum.calls / layers;
}

plan::AxisTraffic Along(const GridTraffic& traffic, Tag tag, std::int64_t layers) {
  plan::AxisTraffic moved;
  AddAlong(traffic, GridGroup::kX, tag, layers, moved.x, moved.calls_x);
  AddAlong(traffic, GridGroup::kY, tag, layers, moved.y, moved.calls_y);
  AddAlong(traffic, GridGroup::kZ, tag, layers, moved.z, moved.calls_z);
  return moved;
}

// Weights along z; of shared key/value heads in the group (z, y), what comes from the same z counts along y.
plan::AxisTraffic Weights(const GridTraffic& traffic, const plan::GridShape& grid, std::int64_t layers) {
  plan::AxisTraffic moved = Along(traffic, Tag::kWeight, layers);
  moved += Along(traffic, Tag::kGradient, layers);
  std::int64_t shared = 0;
  for (const Tag tag : {Tag::kWeight, Tag::kGradient}) AddAlong(traffic, GridGroup::kZY, tag, layers, shared, moved.calls_y);
  const std::int64_t others = std::int64_t{grid.z} * grid.y - 1;
  const std::int64_t along_y = others == 0 ? 0 : shared / others * (grid.y - 1);
  moved.y += along_y;
  moved.z += shared - along_y;
  return moved;
}

}  // namespace

bool CanCount(const plan::GridProblem& problem) { return problem.model.gated != problem.model.bias; }

StatusOr<plan::BlockTraffic> CountBlock(const plan::GridProblem& problem, const plan::GridShape& grid) {
  const plan::Transformer& model = problem.model;
  const std::int64_t samples = problem.batch.sequences != 0 ? problem.batch.sequences : grid.z;
  const std::int64_t sequence = problem.batch.tokens / samples, layers = model.layers;
  const DType compute = problem.element_bytes == SizeOf(DType::kF64) ? DType::kF64 : DType::kF32;
  LYCIA_ASSIGN_OR_RETURN(const GridStep step,
                         DryRunGridStep({.model = {.family = model.gated ? GptFamily::kLlama : GptFamily::kGpt2,
                                                   .layers = layers,
                                                   .heads = model.heads,
                                                   .kv_heads = model.kv_heads,
                                                   .hidden = model.hidden,
                                                   .context = std::max(sequence, model.context),
                                                   .vocab = model.vocab,
                                                   .ffn = model.ffn,
                                                   .tied = model.tied,
                                                   .position = model.gated ? PositionEncoding::kRotary : PositionEncoding::kLearned},
                                         .x = grid.x,
                                         .y = grid.y,
                                         .z = grid.z,
                                         .samples = samples,
                                         .sequence = sequence,
                                         .policy = {.cache_inputs = problem.gather.cache_x,
                                                    .cache_weights = problem.gather.cache_w,
                                                    .cache_output_gradients = !problem.gather.split_backward},
                                         .split_backward = problem.gather.split_backward,
                                         .compute = compute}));
  const auto in_type = [&](plan::AxisTraffic moved) {
    for (std::int64_t* bytes : {&moved.x, &moved.y, &moved.z}) *bytes = *bytes / SizeOf(compute) * problem.element_bytes;
    return moved;
  };
  return plan::BlockTraffic{.activations_forward = in_type(Along(step.blocks, Tag::kActivation, layers)),
                            .activations_backward = in_type(Along(step.blocks_backward, Tag::kActivation, layers)),
                            .weights_forward = in_type(Weights(step.blocks, grid, layers)),
                            .weights_backward = in_type(Weights(step.blocks_backward, grid, layers)),
                            .norm_forward = Along(step.blocks, Tag::kNorm, layers),
                            .norm_backward = Along(step.blocks_backward, Tag::kNorm, layers)};
}

}  // namespace lycia
