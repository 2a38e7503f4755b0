#include "kernels/attention/attention_backward_cuda_launch.h"

#include <algorithm>

namespace lycia::cuda {

BackwardTiling ChooseBackwardTiling(const AttentionProblem& p) { return p.head_dim == 64 ? kBackward64 : kBackward128; }

DqOrder ChooseDqOrder(const AttentionProblem& p, const BackwardTiling& tiling, int multiprocessors) {
  DqOrder order{.queries = static_cast<int>(p.queries),
                .keys = static_cast<int>(p.keys),
                .tile_queries = tiling.queries,
                .tile_keys = BackwardTiling::keys(),
                .causal = p.mask == MaskKind::kCausal,
                .shift = static_cast<int>(p.first_query - p.first_key)};
  order.query_blocks = (order.queries + order.tile_queries - 1) / order.tile_queries;
  order.key_blocks = (order.keys + order.tile_keys - 1) / order.tile_keys;
  // Groups of the same size, the last may be smaller.
  const int blocks = order.key_blocks, groups = (blocks + multiprocessors - 1) / multiprocessors;
  order.group = groups == 0 ? 1 : (blocks + groups - 1) / groups;
  return order;
}

BackwardScratchPlan PlanBackwardScratch(const AttentionProblem& p) {
  const BackwardTiling tiling = ChooseBackwardTiling(p);
  const std::int64_t heads = p.samples * p.heads, blocks = (p.queries + tiling.queries - 1) / tiling.queries;
  BackwardScratchPlan plan{.rows = blocks * tiling.queries};
  const auto take = [&](std::int64_t words) {
    const std::int64_t at = plan.bytes;
    plan.bytes += (words * 4 + 127) / 128 * 128;
    return at;
  };
  plan.log_sum_exp_at = take(heads * plan.rows);
  plan.delta_at = take(heads * plan.rows);
  plan.dq_at = take(heads * plan.rows * p.head_dim);
  plan.added_at = take(heads * blocks);
  plan.ticket_at = take(1);
  return plan;
}

}  // namespace lycia::cuda
