// The backward's copies in and its sums of dq, each by a thread of its own.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_LOAD_CUH_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_LOAD_CUH_

#include "kernels/attention/attention_backward_block.cuh"
#include "kernels/cuda/global_order.h"

namespace lycia::cuda {

template <int kD, int kQ, int kStages>
struct BackwardLoad : BackwardBlock<kD, kQ, kStages> {
  using Block = BackwardBlock<kD, kQ, kStages>;
  using Block::barriers, Block::p, Block::shared;
  using Block::HeadAt, Block::heads_per_key, Block::TileAt, Block::tiles;
  using Block::kKeys, Block::kPanels, Block::kTiling;
  using typename Block::Tile;

  __device__ void Produce() const {  // one thread
    RingPosition<kStages> ring;
    PrefetchTensorMap(&p.q), PrefetchTensorMap(&p.dout), PrefetchTensorMap(&p.k), PrefetchTensorMap(&p.v);
    for (int round = 0;; round ^= 1) {
      const int index = atomicAdd(p.ticket, 1);
      barriers.tile_empty.Wait(round ^ 1);
      barriers.tile = index;
      barriers.tile_full.Arrive();
      if (index >= tiles()) return;
      const Tile tile = TileAt(index);
      barriers.kv_empty.Wait(round ^ 1);
      barriers.kv_full.ArriveExpecting(2 * kTiling.key_bytes());
      for (int panel = 0; panel < kPanels; ++panel) {
        const BoxCorner at{panel * kPanelColumns, tile.block * kKeys, tile.key_head, tile.sample};
        LoadBox(shared + panel * kKeys * kPanelRowBytes, &p.k, at, barriers.kv_full);
        LoadBox(shared + kTiling.values_at() + panel * kKeys * kPanelRowBytes, &p.v, at, barriers.kv_full);
      }
      const int steps = p.order.Steps(tile.block), start = p.order.At(tile.block, 0);
      for (int i = 0; i < heads_per_key(); ++i) {
        const int head = HeadAt(tile, i);
        for (int step = 0, m = start; step < steps; ++step, m = p.order.After(m)) {
          Barrier& full = barriers.full[ring.stage];
          barriers.empty[ring.stage].Wait(ring.parity() ^ 1);
          barriers.query_block[ring.stage] = m;
          full.ArriveExpecting(2 * kTiling.query_bytes() + 2 * kTiling.row_bytes());
          for (int panel = 0; panel < kPanels; ++panel) {
            const BoxCorner at{panel * kPanelColumns, m * kQ, head % p.heads, tile.sample};
            const int to = ring.stage * kTiling.query_bytes() + panel * kQ * kPanelRowBytes;
            LoadBox(shared + kTiling.q_at() + to, &p.q, at, full);
            LoadBox(shared + kTiling.dout_at() + to, &p.dout, at, full);
          }
          const std::int64_t row = std::int64_t{head} * p.rows + m * kQ;
          LoadBytes(shared + kTiling.log_sum_exp_at() + ring.stage * kTiling.row_bytes(), p.log_sum_exp + row, kTiling.row_bytes(), full);
          LoadBytes(shared + kTiling.delta_at() + ring.stage * kTiling.row_bytes(), p.delta + row, kTiling.row_bytes(), full);
          ring.Next();
        }
      }
    }
  }

  // One thread for each buffer of dq, for every second step: waits for the turn and for the step's dq, adds it, passes the turn on.
  __device__ void AddDq(int buffer) const {
    char* staged = shared + kTiling.dq_at() + buffer * kTiling.dq_bytes();
    int count = 0, dq_round = 0;  // of steps; of this buffer
    for (int round = 0;; round ^= 1) {
      barriers.tile_full.Wait(round);
      const int index = barriers.tile;
      barriers.tile_empty.Arrive();
      if (index >= tiles()) return;
      const Tile tile = TileAt(index);
      const int steps = p.order.Steps(tile.block), start = p.order.At(tile.block, 0);
      for (int i = 0; i < heads_per_key(); ++i) {
        const int head = HeadAt(tile, i);
        for (int step = 0, m = start; step < steps; ++step, m = p.order.After(m)) {
          if (count++ % kDqBuffers != buffer) continue;
          int* added = p.added + std::int64_t{head} * p.order.query_blocks + m;
          float* to = p.dq + (std::int64_t{head} * p.rows + m * kQ) * kD;
          const int rank = p.order.Rank(tile.block, m);
          while (LoadAcquire(added) != rank) {
          }
          FenceGlobalForAsync();
          barriers.dq_full[buffer].Wait(dq_round);
          dq_round ^= 1;
          if (rank == 0) {
            StoreBytes(to, staged, kTiling.dq_bytes());
          } else {
            AddFloats(to, staged, kTiling.dq_bytes());
          }
          CommitStores();
          WaitStoresRead();
          barriers.dq_empty[buffer].Arrive();
          WaitStores();
          StoreRelease(added, rank + 1);
        }
      }
    }
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_LOAD_CUH_
