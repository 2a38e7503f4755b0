// How the Hopper attention's backward is cut, and the order in which blocks add to dq: pure functions, tested without a GPU; the kernel
// calls the same ones.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_CUDA_LAUNCH_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_CUDA_LAUNCH_H_

#include <cstdint>

#include "kernels/attention/attention_cuda_launch.h"

namespace lycia::cuda {

// The tiling of one kernel instance, in elements: two warp groups of 64 keys each, a step of `queries`.
struct BackwardTiling {
  int head_dim = 128;
  int queries = 64;
  int stages = 2;  // steps of q and dout in flight

  static constexpr int keys() { return 2 * kGroupRows; }
  // In this order in shared memory: keys, values, stages of q and dout, two of dscores and of dq, stages of log_sum_exp and delta,
  // barriers.
  constexpr int key_bytes() const { return keys() * head_dim * 2; }
  constexpr int query_bytes() const { return queries * head_dim * 2; }
  constexpr int row_bytes() const { return queries * 4; }
  constexpr int dscores_bytes() const { return keys() * queries * 2; }
  constexpr int dq_bytes() const { return queries * head_dim * 4; }
  constexpr int values_at() const { return key_bytes(); }
  constexpr int q_at() const { return 2 * key_bytes(); }
  constexpr int dout_at() const { return q_at() + stages * query_bytes(); }
  constexpr int dscores_at() const { return dout_at() + stages * query_bytes(); }
  constexpr int dq_at() const { return dscores_at() + 2 * dscores_bytes(); }
  constexpr int log_sum_exp_at() const { return dq_at() + 2 * dq_bytes(); }
  constexpr int delta_at() const { return log_sum_exp_at() + stages * row_bytes(); }
  constexpr int barriers_at() const { return delta_at() + stages * row_bytes(); }
  constexpr int shared_bytes() const { return barriers_at() + 256; }
  bool operator==(const BackwardTiling&) const = default;
};
inline constexpr BackwardTiling kBackward64{.head_dim = 64, .queries = 128, .stages = 2};
inline constexpr BackwardTiling kBackward128{.head_dim = 128, .queries = 64, .stages = 2};

// Key block n adds its part of dq to query block m when all blocks before it in m's order have: the sums have one order, whatever the
// timing. Blocks work at the same time, so the order is that in which they come by m:
//
//   causal: key block n starts at its diagonal, m = first(n), and goes up, so larger n come by m earlier: the order is n descending;
//   full: the key blocks of a group start spread over all m and go round; those that started at or before m come first, n descending, then
//   those that came around the end. A group has at most as many key blocks as run at once; groups follow each other.
//
// Worked example, full, 4 key blocks in one group, 8 query blocks: they start at 0, 2, 4, 6; query block 5 receives 2, 1, 0, 3.
struct DqOrder {
  int queries = 0, keys = 0;  // T, S
  int tile_queries = 64, tile_keys = 128;
  bool causal = false;
  int shift = 0;                         // first_query - first_key
  int query_blocks = 0, key_blocks = 0;  // tiles, rounded up
  int group = 1;                         // key blocks, full only

  // Key blocks that query block m sees: the first of them.
  constexpr int SeenBy(int m) const {
    const int end = (m + 1) * tile_queries < queries ? (m + 1) * tile_queries : queries;
    return (VisibleKeys(keys, causal, shift, end) + tile_keys - 1) / tile_keys;
  }
  // Query blocks that key block n visits, and the one it visits at `step`.
  constexpr int Steps(int n) const { return query_blocks - First(n); }
  constexpr int At(int n, int step) const {
    if (causal) return First(n) + step;
    const int m = Start(n) + step;
    return m < query_blocks ? m : m - query_blocks;
  }
  constexpr int After(int m) const { return m + 1 == query_blocks ? 0 : m + 1; }  // At(n, step + 1) of At(n, step)
  // The place of key block n among those that add to query block m, from 0.
  constexpr int Rank(int n, int m) const {
    if (causal) return SeenBy(m) - 1 - n;
    const int in_group = n % group, size = GroupSize(n);
    const auto blocks = static_cast<unsigned>(query_blocks);
    const int counted = static_cast<int>((static_cast<unsigned>(m + 1) * static_cast<unsigned>(size) + blocks - 1) / blocks);
    const int started = counted < size ? counted : size;  // at m or before
    const int rank = in_group < started ? started - 1 - in_group : started + size - 1 - in_group;
    return n - in_group + rank;
  }
  // Key blocks in the order in which they are begun: a block waits only for blocks begun before it, or together with it in a group.
  constexpr int BlockAt(int index) const { return causal ? key_blocks - 1 - index : index; }

 private:
  constexpr int First(int n) const {
    if (!causal) return 0;
    const int query = n * tile_keys - shift;  // the first that sees key n * tile_keys
    return query < 0 ? 0 : query >= queries ? query_blocks : query / tile_queries;
  }
  constexpr int GroupSize(int n) const {
    const int left = key_blocks - n / group * group;
    return left < group ? left : group;
  }
  constexpr int Start(int n) const {  // of 32 bits: at most 2^22 query blocks by 1,024 multiprocessors
    return static_cast<int>(static_cast<unsigned>(n % group) * static_cast<unsigned>(query_blocks) / static_cast<unsigned>(GroupSize(n)));
  }
};
// multiprocessors: each runs one block.
DqOrder ChooseDqOrder(const AttentionProblem& problem, const BackwardTiling& tiling, int multiprocessors);

BackwardTiling ChooseBackwardTiling(const AttentionProblem& problem);

// The scratch of a backward call, cut into parts of f32 and i32, all [B, H, ...]. T is rounded up to whole query blocks.
struct BackwardScratchPlan {
  std::int64_t rows = 0;                          // of one head, rounded up
  std::int64_t log_sum_exp_at = 0, delta_at = 0;  // [rows]
  std::int64_t dq_at = 0;                         // [rows, D], in the order of accumulators
  std::int64_t added_at = 0;                      // [query blocks]: key blocks that have added to dq
  std::int64_t ticket_at = 0;                     // one: the next key block to begin
  std::int64_t bytes = 0;
  bool operator==(const BackwardScratchPlan&) const = default;
};
BackwardScratchPlan PlanBackwardScratch(const AttentionProblem& problem);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_CUDA_LAUNCH_H_
