// The forward kernel for Hopper; the plan is in attention_forward_cuda.cu.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_FORWARD_HOPPER_CUH_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_FORWARD_HOPPER_CUH_

#include <cstdint>

#include "kernels/attention/attention_cuda_launch.h"
#include "kernels/attention/online_softmax.cuh"
#include "kernels/cuda/mbarrier.h"
#include "kernels/cuda/shared_tile.h"
#include "kernels/cuda/tma_cuda.h"
#include "kernels/cuda/warp_group.h"
#include "kernels/cuda/wgmma.h"

namespace lycia::cuda {

struct ForwardParameters {
  CUtensorMap q, k, v, out;  // boxes of 64 queries (q, out) or one step's keys (k, v) by one panel
  float* log_sum_exp;        // [B, H, T]
  int* next_tile;            // zero at launch
  TileOrder order;
  int queries, keys, heads, heads_per_key;
  bool causal;
  int shift;  // first_query - first_key
  float scale;
};

constexpr int kTileSlots = 2;    // tiles that the producer is ahead
constexpr int kTurnBarrier = 1;  // hardware barriers 1 ... consumers: whose turn it is to issue products
constexpr int kOutBarrier = 5;   // 5 ...: a warp group among itself

template <int kStages, int kConsumers>
struct ForwardBarriers {
  Barrier q_full, q_empty;
  Barrier k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
  Barrier tile_full[kTileSlots], tile_empty[kTileSlots];
  int tile[kTileSlots];

  __device__ void Init() {
    constexpr int kWarps = 4 * kConsumers;  // one arrival a consumer warp
    q_full.Init(1), q_empty.Init(kWarps);
    for (int s = 0; s < kStages; ++s) k_full[s].Init(1), k_empty[s].Init(kWarps), v_full[s].Init(1), v_empty[s].Init(kWarps);
    for (int s = 0; s < kTileSlots; ++s) tile_full[s].Init(1), tile_empty[s].Init(kWarps);
    FenceBarrierInit();
  }
};

template <int kD, int kWarpGroups, int kStep, int kStages>
struct Forward {
  static constexpr ForwardTiling kTiling{.head_dim = kD, .consumers = kWarpGroups, .keys = kStep, .stages = kStages};
  static constexpr int kHeadDim = kTiling.head_dim, kKeys = kTiling.keys, kQueries = kTiling.queries(), kConsumers = kTiling.consumers;
  static constexpr int kPanels = kHeadDim / kPanelColumns;
  static constexpr int kScores = kKeys / 2, kOut = kHeadDim / 2;  // accumulators of a thread
  using Barriers = ForwardBarriers<kTiling.stages, kConsumers>;
  static_assert(sizeof(Barriers) <= 256 && kTiling.shared_bytes() <= kMaxSharedBytes);

  const ForwardParameters& p;
  char* shared;
  Barriers& barriers;

  __device__ int KeySteps(const AttentionTile& tile) const {
    const int end = min(p.queries, (tile.query_tile + 1) * kQueries);
    return (VisibleKeys(p.keys, p.causal, p.shift, end) + kKeys - 1) / kKeys;
  }

  // One thread. Keys and values go from the last step, which masks, to the first.
  __device__ void Produce() const {
    RingPosition<kTiling.stages> ring;
    RingPosition<kTileSlots> slot;
    int q_round = 0;
    PrefetchTensorMap(&p.q), PrefetchTensorMap(&p.k), PrefetchTensorMap(&p.v), PrefetchTensorMap(&p.out);
    for (;;) {
      const int index = atomicAdd(p.next_tile, 1);
      barriers.tile_empty[slot.stage].Wait(slot.parity() ^ 1);
      barriers.tile[slot.stage] = index;
      barriers.tile_full[slot.stage].Arrive();
      slot.Next();
      if (index >= p.order.tiles()) return;
      const AttentionTile tile = p.order.At(index);
      const int steps = KeySteps(tile);
      if (steps == 0) continue;
      const int sample = tile.head / p.heads, head = tile.head % p.heads, key_head = head / p.heads_per_key;
      barriers.q_empty.Wait(q_round ^ 1);
      q_round ^= 1;
      barriers.q_full.ArriveExpecting(kTiling.query_bytes());
#pragma unroll 1
      for (int panel = 0; panel < kPanels; ++panel) {
#pragma unroll 1
        for (int group = 0; group < kConsumers; ++group) {
          LoadBox(shared + (panel * kQueries + group * kGroupRows) * kPanelRowBytes, &p.q,
                  {panel * kPanelColumns, tile.query_tile * kQueries + group * kGroupRows, head, sample}, barriers.q_full);
        }
      }
#pragma unroll 1
      for (int step = steps - 1; step >= 0; --step) {
        const auto load = [&](int at, const CUtensorMap* map, Barrier& full, Barrier& empty) {
          empty.Wait(ring.parity() ^ 1);
          full.ArriveExpecting(kTiling.key_bytes());
          for (int panel = 0; panel < kPanels; ++panel) {
            LoadBox(shared + at + ring.stage * kTiling.key_bytes() + panel * kKeys * kPanelRowBytes, map,
                    {panel * kPanelColumns, step * kKeys, key_head, sample}, full);
          }
        };
        load(kTiling.keys_at(), &p.k, barriers.k_full[ring.stage], barriers.k_empty[ring.stage]);
        load(kTiling.values_at(), &p.v, barriers.v_full[ring.stage], barriers.v_empty[ring.stage]);
        ring.Next();
      }
    }
  }

  // scores = q kᵀ, queued.
  __device__ void QueueScores(float (&scores)[kScores], int group, int stage) const {
    const std::uint64_t q = RowsDescriptor(SharedAddress(shared) + group * kGroupRows * kPanelRowBytes);
    const std::uint64_t k = RowsDescriptor(SharedAddress(shared) + kTiling.keys_at() + stage * kTiling.key_bytes());
#pragma unroll
    for (int i = 0; i < kHeadDim / kStepK; ++i) {
      Wgmma<kKeys>::template Shared<Summed::kColumns, Summed::kColumns>(scores, Advance(q, RowsStepBytes(kQueries, i)),
                                                                        Advance(k, RowsStepBytes(kKeys, i)), i > 0);
    }
    CommitProducts();
  }
  // out += p v, queued.
  __device__ void QueueOut(float (&out)[kOut], const std::uint32_t (&probabilities)[kScores / 2], int stage) const {
    const std::uint64_t v = ColumnsDescriptor(SharedAddress(shared) + kTiling.values_at() + stage * kTiling.key_bytes(), kKeys);
#pragma unroll
    for (int i = 0; i < kKeys / kStepK; ++i) {
      Wgmma<kHeadDim>::template Registers<Summed::kRows>(out, probabilities + 4 * i, Advance(v, ColumnsStepBytes(i)), true);
    }
    CommitProducts();
  }

  __device__ void Consume(int group) const {
    const int thread = threadIdx.x % kWarpGroupThreads, lane = thread % kWarpThreads, row = thread / kWarpThreads * 16 + lane / 4;
    const bool speaker = lane == 0;     // of a warp
    RingPosition<kTiling.stages> ring;  // of keys; values are used one step later
    RingPosition<kTileSlots> slot;
    int q_round = 0;
    if (group == kConsumers - 1) BarrierArrive(kTurnBarrier, 2 * kWarpGroupThreads);
    for (;;) {
      barriers.tile_full[slot.stage].Wait(slot.parity());
      const int index = barriers.tile[slot.stage];
      __syncwarp();
      if (speaker) barriers.tile_empty[slot.stage].Arrive();
      slot.Next();
      if (index >= p.order.tiles()) break;
      const AttentionTile tile = p.order.At(index);
      const int steps = KeySteps(tile), query = tile.query_tile * kQueries + group * kGroupRows + row;
      // Keys that the thread's two rows see, and what every row of the group sees.
      const int limits[2] = {VisibleKeys(p.keys, p.causal, p.shift, query + 1), VisibleKeys(p.keys, p.causal, p.shift, query + 9)};
      const int seen_by_all = VisibleKeys(p.keys, p.causal, p.shift, tile.query_tile * kQueries + group * kGroupRows + 1);

      OnlineSoftmax<kScores> softmax(p.scale);
      float out[kOut];
#pragma unroll
      for (int i = 0; i < kOut; ++i) out[i] = 0;
      if (steps > 0) {
        float scores[kScores];
        std::uint32_t probabilities[kScores / 2];
        const auto mask = [&](int step) {
          if ((step + 1) * kKeys > seen_by_all) MaskScores(scores, limits, step * kKeys + lane % 4 * 2);
        };
        barriers.q_full.Wait(q_round);
        q_round ^= 1;
        barriers.k_full[ring.stage].Wait(ring.parity());
        FenceOperands();
        QueueScores(scores, group, ring.stage);
        WaitProducts<0>();
        Pin(scores);
        if (speaker) barriers.k_empty[ring.stage].Arrive();
        ring.Next();
        mask(steps - 1);
        float factors[2];
        softmax.Next(scores, factors);  // nothing to scale yet
        PackProbabilities(scores, probabilities);
        for (int step = steps - 2; step >= 0; --step) {
          const auto before = ring.Before();
          barriers.k_full[ring.stage].Wait(ring.parity());
          BarrierSync(kTurnBarrier + group, 2 * kWarpGroupThreads);
          Pin(out), Pin(scores);
          FenceOperands();
          QueueScores(scores, group, ring.stage);
          barriers.v_full[before.stage].Wait(before.parity());
          FenceOperands();
          QueueOut(out, probabilities, before.stage);
          BarrierArrive(kTurnBarrier + (group + 1) % kConsumers, 2 * kWarpGroupThreads);
          WaitProducts<1>();
          Pin(scores);
          if (speaker) barriers.k_empty[ring.stage].Arrive();
          ring.Next();
          mask(step);
          float factors[2];
          softmax.Next(scores, factors);
          WaitProducts<0>();
          Pin(out);
          if (speaker) barriers.v_empty[before.stage].Arrive();
          ScaleRows(out, factors);
          PackProbabilities(scores, probabilities);
        }
        if (speaker) barriers.q_empty.Arrive();
        const auto last = ring.Before();
        barriers.v_full[last.stage].Wait(last.parity());
        Pin(out);
        FenceOperands();
        QueueOut(out, probabilities, last.stage);
        WaitProducts<0>();
        Pin(out);
        if (speaker) barriers.v_empty[last.stage].Arrive();
      }
      Finish(softmax, out, tile, group, thread, query);
    }
    WaitStores();
  }

  // out / sum to global memory through shared memory, and log_sum_exp.
  __device__ void Finish(OnlineSoftmax<kScores>& softmax, float (&out)[kOut], const AttentionTile& tile, int group, int thread,
                         int query) const {
    float inverse_sums[2], log_sums[2];
    softmax.Finish(inverse_sums, log_sums);
    ScaleRows(out, inverse_sums);
    const int lane = thread % kWarpThreads, row = group * kGroupRows + thread / kWarpThreads * 16 + lane / 4;
    if (thread == 0) WaitStoresRead();
    BarrierSync(kOutBarrier + group, kWarpGroupThreads);  // the tile before has left
    char* staged = shared + kTiling.out_at();
#pragma unroll
    for (int i = 0; i < kOut / 4; ++i) {
      const int column = 8 * i + lane % 4 * 2;
      *reinterpret_cast<std::uint32_t*>(staged + TileOffset(kQueries, row, column)) = PackBf16(out[4 * i], out[4 * i + 1]);
      *reinterpret_cast<std::uint32_t*>(staged + TileOffset(kQueries, row + 8, column)) = PackBf16(out[4 * i + 2], out[4 * i + 3]);
    }
    FenceSharedForAsync();
    BarrierSync(kOutBarrier + group, kWarpGroupThreads);
    const int sample = tile.head / p.heads, head = tile.head % p.heads;
    if (thread == 0) {
      for (int panel = 0; panel < kPanels; ++panel) {
        StoreBox(&p.out, {panel * kPanelColumns, tile.query_tile * kQueries + group * kGroupRows, head, sample},
                 staged + (panel * kQueries + group * kGroupRows) * kPanelRowBytes);
      }
      CommitStores();
    }
    if (lane % 4 == 0) {
      float* log_sum_exp = p.log_sum_exp + std::int64_t{tile.head} * p.queries;
      if (query < p.queries) log_sum_exp[query] = log_sums[0];
      if (query + 8 < p.queries) log_sum_exp[query + 8] = log_sums[1];
    }
  }
};

// The tiling's members, one by one: host compilers of nvcc know no structs as template arguments of kernels.
template <int kD, int kWarpGroups, int kStep, int kStages>
__global__ void __launch_bounds__((kWarpGroups + 1) * kWarpGroupThreads, 1) ForwardKernel(const __grid_constant__ ForwardParameters p) {
  using Kernel = Forward<kD, kWarpGroups, kStep, kStages>;
  constexpr ForwardTiling kTiling = Kernel::kTiling;
  extern __shared__ __align__(kSwizzleAtomBytes) char shared[];
  auto& barriers = *reinterpret_cast<typename Kernel::Barriers*>(shared + kTiling.barriers_at());
  if (threadIdx.x == 0) barriers.Init();
  __syncthreads();
  const Kernel forward{p, shared, barriers};
  const int group = threadIdx.x / kWarpGroupThreads;
  if (group == kTiling.consumers) {
    ReleaseRegisters<ProducerRegisters(kTiling.consumers)>();
    if (threadIdx.x % kWarpGroupThreads == 0) forward.Produce();
  } else {
    ClaimRegisters<ConsumerRegisters(kTiling.consumers)>();
    forward.Consume(group);
  }
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_FORWARD_HOPPER_CUH_
