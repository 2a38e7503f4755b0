// What a block of the backward's main kernel consists of; the plan is in attention_backward_cuda.cu.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_BLOCK_CUH_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_BLOCK_CUH_

#include <cstdint>

#include "kernels/attention/attention_backward_cuda_launch.h"
#include "kernels/cuda/mbarrier.h"
#include "kernels/cuda/shared_tile.h"
#include "kernels/cuda/tma_cuda.h"
#include "kernels/cuda/warp_group.h"

namespace lycia::cuda {

struct BackwardParameters {
  CUtensorMap q, dout;               // boxes of one step's queries by one panel
  CUtensorMap k, v;                  // boxes of a block's keys by one panel
  CUtensorMap dk, dv;                // boxes of a warp group's keys by one panel
  const float *log_sum_exp, *delta;  // [B, H, rows]: base 2 and +infinity where nothing is seen; sum of dout * out
  float* dq;                         // [B, H, rows, D] in the order of accumulators
  int* added;                        // [B, H, query blocks], zero at launch
  int* ticket;                       // zero at launch
  DqOrder order;
  int samples, heads, kv_heads, rows;
  float scale;
};

constexpr int kDscoresBarrier = 1;  // both warp groups: dscores are in shared memory
constexpr int kGroupBarrier = 2;    // 2, 3: a warp group among itself
constexpr int kBackwardThreads = 3 * kWarpGroupThreads;
constexpr int kDqBuffers = 2;  // steps whose dq waits for its turn, a thread for each

template <int kStages>
struct BackwardBarriers {
  Barrier kv_full, kv_empty, full[kStages], empty[kStages], dq_full[kDqBuffers], dq_empty[kDqBuffers];
  Barrier tile_full, tile_empty;
  int tile;
  int query_block[kStages];

  __device__ void Init() {
    constexpr int kWarps = 8;  // of both groups
    kv_full.Init(1), kv_empty.Init(2), tile_full.Init(1), tile_empty.Init(kWarps + kDqBuffers);
    for (int s = 0; s < kStages; ++s) full[s].Init(1), empty[s].Init(kWarps);
    for (int s = 0; s < kDqBuffers; ++s) dq_full[s].Init(kWarps), dq_empty[s].Init(1);
    FenceBarrierInit();
  }
};

template <int kD, int kQ, int kStages>
struct BackwardBlock {
  static constexpr BackwardTiling kTiling{.head_dim = kD, .queries = kQ, .stages = kStages};
  static constexpr int kKeys = BackwardTiling::keys(), kPanels = kD / kPanelColumns;
  using Barriers = BackwardBarriers<kStages>;
  static_assert(sizeof(Barriers) <= 256 && kTiling.shared_bytes() <= kMaxSharedBytes);

  const BackwardParameters& p;
  char* shared;
  Barriers& barriers;

  // A block of keys of one key head; its steps go over the query heads that read it.
  struct Tile {
    int block, sample, key_head;
  };
  __device__ int tiles() const { return p.order.key_blocks * p.samples * p.kv_heads; }
  __device__ Tile TileAt(int index) const {
    const int blocks = p.order.key_blocks, head = index / blocks;
    return {p.order.BlockAt(index % blocks), head / p.kv_heads, head % p.kv_heads};
  }
  __device__ int heads_per_key() const { return p.heads / p.kv_heads; }
  __device__ int HeadAt(const Tile& tile, int i) const { return tile.sample * p.heads + tile.key_head * heads_per_key() + i; }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_BLOCK_CUH_
