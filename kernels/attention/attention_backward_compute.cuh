// The backward's products and what is between them: a warp group has 64 keys of the block, and goes over the steps of queries.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_COMPUTE_CUH_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_COMPUTE_CUH_

#include <cstdint>
#include <numbers>

#include "kernels/attention/attention_backward_block.cuh"
#include "kernels/cuda/wgmma.h"

namespace lycia::cuda {

template <int kD, int kQ, int kStages>
struct BackwardCompute : BackwardBlock<kD, kQ, kStages> {
  using Block = BackwardBlock<kD, kQ, kStages>;
  using Block::barriers, Block::p, Block::shared;
  using Block::heads_per_key, Block::TileAt, Block::tiles;
  using Block::kKeys, Block::kPanels, Block::kTiling;
  using typename Block::Tile;
  static constexpr int kScores = kQ / 2, kGradient = kD / 2;  // accumulators of a thread
  // Of dq a group makes 64 x 64: half of the rows of a step of 128, or half of D.
  static constexpr int kPart = 32;
  static_assert(kQ / kGroupRows * (kD / kPanelColumns) == 2);

  __device__ void Consume(int group) const {
    const int thread = threadIdx.x % kWarpGroupThreads, lane = thread % kWarpThreads;
    const int row = group * kGroupRows + thread / kWarpThreads * 16 + lane / 4;  // of the block's keys; and row + 8
    const bool speaker = lane == 0;
    const float scale_log2 = p.scale * std::numbers::log2e_v<float>;
    RingPosition<kStages> ring;
    RingPosition<kDqBuffers> buffers;  // of dscores and dq
    for (int round = 0;; round ^= 1) {
      barriers.tile_full.Wait(round);
      const int index = barriers.tile;
      __syncwarp();
      if (speaker) barriers.tile_empty.Arrive();
      if (index >= tiles()) break;
      const Tile tile = TileAt(index);
      float dk[kGradient], dv[kGradient];
#pragma unroll
      for (int i = 0; i < kGradient; ++i) dk[i] = dv[i] = 0;
      barriers.kv_full.Wait(round);
      const int steps = heads_per_key() * p.order.Steps(tile.block);
      if (steps > 0) {
        for (int step = 0; step < steps; ++step) {
          const int stage = ring.stage;
          const std::uint32_t base = Recomputed(SharedAddress(shared));
          float scores[kScores], dprobabilities[kScores];
          barriers.full[stage].Wait(ring.parity());
          const int m = barriers.query_block[stage];
          QueueScores(scores, base, group, stage);
          QueueDprobabilities(dprobabilities, base, group, stage);
          WaitProducts<1>();
          Pin(scores), Pin(dk);
          if (speaker && step > 0) barriers.empty[(stage + kStages - 1) % kStages].Arrive();  // its q has been read, for dk
          Probabilities(scores, stage, lane, scale_log2);
          Mask(scores, tile.block * kKeys + row, m * kQ + lane % 4 * 2, tile.block * kKeys + (group + 1) * kGroupRows, m * kQ);
          std::uint32_t probabilities[kScores / 2], dscores[kScores / 2];
#pragma unroll
          for (int j = 0; j < kScores / 2; ++j) probabilities[j] = PackBf16(scores[2 * j], scores[2 * j + 1]);
          QueueDv(dv, probabilities, base, stage);
          WaitProducts<1>();
          Pin(dprobabilities);
          Dscores(probabilities, dprobabilities, stage, lane, dscores);
          StageDscores(dscores, buffers.stage, row, lane);
          FenceSharedForAsync();
          BarrierSync(kDscoresBarrier, 2 * kWarpGroupThreads);
          float part[kPart];
          QueueDq(part, base, group, buffers.stage);
          QueueDk(dk, base, group, buffers.stage, stage);
          WaitProducts<1>();
          Pin(part), Pin(dv);
#pragma unroll
          for (int i = 0; i < kPart; ++i) part[i] *= p.scale;
          barriers.dq_empty[buffers.stage].Wait(buffers.parity() ^ 1);
          StagePart(part, buffers.stage, group, thread);
          FenceSharedForAsync();
          __syncwarp();
          if (speaker) barriers.dq_full[buffers.stage].Arrive();
          ring.Next(), buffers.Next();
        }
        WaitProducts<0>();
        Pin(dk);
        if (speaker) barriers.empty[(ring.stage + kStages - 1) % kStages].Arrive();
      }
      Finish(dk, dv, tile, group, thread, row);
    }
    WaitStores();
  }

  // scoresᵀ = k qᵀ of the group's keys, queued.
  __device__ void QueueScores(float (&scores)[kScores], std::uint32_t base, int group, int stage) const {
    const std::uint64_t k = RowsDescriptor(base + group * kGroupRows * kPanelRowBytes),
                        q = RowsDescriptor(base + kTiling.q_at() + stage * kTiling.query_bytes());
    Pin(scores);
    FenceOperands();
#pragma unroll
    for (int i = 0; i < kD / kStepK; ++i) {
      Wgmma<kQ>::template Shared<Summed::kColumns, Summed::kColumns>(scores, Advance(k, RowsStepBytes(kKeys, i)),
                                                                     Advance(q, RowsStepBytes(kQ, i)), i > 0);
    }
    CommitProducts();
  }
  // dprobabilitiesᵀ = v doutᵀ of the group's keys, queued.
  __device__ void QueueDprobabilities(float (&dprobabilities)[kScores], std::uint32_t base, int group, int stage) const {
    const std::uint64_t v = RowsDescriptor(base + kTiling.values_at() + group * kGroupRows * kPanelRowBytes),
                        dout = RowsDescriptor(base + kTiling.dout_at() + stage * kTiling.query_bytes());
    Pin(dprobabilities);
    FenceOperands();
#pragma unroll
    for (int i = 0; i < kD / kStepK; ++i) {
      Wgmma<kQ>::template Shared<Summed::kColumns, Summed::kColumns>(dprobabilities, Advance(v, RowsStepBytes(kKeys, i)),
                                                                     Advance(dout, RowsStepBytes(kQ, i)), i > 0);
    }
    CommitProducts();
  }
  // dv += probabilitiesᵀ dout, queued.
  __device__ void QueueDv(float (&dv)[kGradient], const std::uint32_t (&probabilities)[kScores / 2], std::uint32_t base, int stage) const {
    const std::uint64_t dout = ColumnsDescriptor(base + kTiling.dout_at() + stage * kTiling.query_bytes(), kQ);
    Pin(dv);
    FenceOperands();
#pragma unroll
    for (int i = 0; i < kQ / kStepK; ++i) {
      Wgmma<kD>::template Registers<Summed::kRows>(dv, probabilities + 4 * i, Advance(dout, ColumnsStepBytes(i)), true);
    }
    CommitProducts();
  }
  // dk += dscoresᵀ q, queued; dscores from shared memory, so that it holds no registers while it runs into the next step.
  __device__ void QueueDk(float (&dk)[kGradient], std::uint32_t base, int group, int buffer, int stage) const {
    const std::uint64_t dscores =
        RowsDescriptor(base + kTiling.dscores_at() + buffer * kTiling.dscores_bytes() + group * kGroupRows * kPanelRowBytes);
    const std::uint64_t q = ColumnsDescriptor(base + kTiling.q_at() + stage * kTiling.query_bytes(), kQ);
    Pin(dk);
    FenceOperands();
#pragma unroll
    for (int i = 0; i < kQ / kStepK; ++i) {
      Wgmma<kD>::template Shared<Summed::kColumns, Summed::kRows>(dk, Advance(dscores, RowsStepBytes(kKeys, i)),
                                                                  Advance(q, ColumnsStepBytes(i)), true);
    }
    CommitProducts();
  }
  // The group's part of dscores k, over all keys of the block, queued.
  __device__ void QueueDq(float (&dq)[kPart], std::uint32_t base, int group, int buffer) const {
    constexpr int kPanel = kKeys * kPanelRowBytes;
    const std::uint32_t dscores = base + kTiling.dscores_at() + buffer * kTiling.dscores_bytes();
    const std::uint64_t a = ColumnsDescriptor(dscores + (kQ == 128 ? group * kPanel : 0), kKeys),
                        k = ColumnsDescriptor(base + (kPanels == 2 ? group * kPanel : 0), kKeys);
    FenceOperands();
#pragma unroll
    for (int i = 0; i < kKeys / kStepK; ++i) {
      Wgmma<64>::template Shared<Summed::kRows, Summed::kRows>(dq, Advance(a, ColumnsStepBytes(i)), Advance(k, ColumnsStepBytes(i)), i > 0);
    }
    CommitProducts();
  }

  // exp(scale scores - log_sum_exp). A thread's columns are queries 8 j + 2 (lane % 4) and the next.
  __device__ void Probabilities(float (&scores)[kScores], int stage, int lane, float scale_log2) const {
    const auto* log_sum_exp = reinterpret_cast<const float2*>(shared + kTiling.log_sum_exp_at() + stage * kTiling.row_bytes()) + lane % 4;
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
      const float2 shift = log_sum_exp[4 * j];
      scores[4 * j] = Exp2(scores[4 * j] * scale_log2 - shift.x);
      scores[4 * j + 1] = Exp2(scores[4 * j + 1] * scale_log2 - shift.y);
      scores[4 * j + 2] = Exp2(scores[4 * j + 2] * scale_log2 - shift.x);
      scores[4 * j + 3] = Exp2(scores[4 * j + 3] * scale_log2 - shift.y);
    }
  }
  // dscores = probabilities (dprobabilities - delta), from probabilities as dv saw them: to hold them in f32 too takes the registers of a
  // product.
  __device__ void Dscores(const std::uint32_t (&probabilities)[kScores / 2], const float (&dprobabilities)[kScores], int stage, int lane,
                          std::uint32_t (&dscores)[kScores / 2]) const {
    const auto* delta = reinterpret_cast<const float2*>(shared + kTiling.delta_at() + stage * kTiling.row_bytes()) + lane % 4;
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
      const float2 less = delta[4 * j], upper = UnpackBf16(probabilities[2 * j]), lower = UnpackBf16(probabilities[2 * j + 1]);
      dscores[2 * j] = PackBf16(upper.x * (dprobabilities[4 * j] - less.x), upper.y * (dprobabilities[4 * j + 1] - less.y));
      dscores[2 * j + 1] = PackBf16(lower.x * (dprobabilities[4 * j + 2] - less.x), lower.y * (dprobabilities[4 * j + 3] - less.y));
    }
  }
  __device__ void StageDscores(const std::uint32_t (&dscores)[kScores / 2], int buffer, int row, int lane) const {
    char* staged = shared + kTiling.dscores_at() + buffer * kTiling.dscores_bytes();
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
      const int column = 8 * j + lane % 4 * 2;
      *reinterpret_cast<std::uint32_t*>(staged + TileOffset(kKeys, row, column)) = dscores[2 * j];
      *reinterpret_cast<std::uint32_t*>(staged + TileOffset(kKeys, row + 8, column)) = dscores[2 * j + 1];
    }
  }

  // probability 0 where key > query + shift or key >= keys. Rows of scores are keys, columns queries. last_key: of the group, plus one.
  __device__ void Mask(float (&probabilities)[kScores], int key, int query, int last_key, int first_query) const {
    if (last_key <= VisibleKeys(p.order.keys, p.order.causal, p.order.shift, first_query + 1)) return;
#pragma unroll
    for (int j = 0; j < kScores; ++j) {
      const int visible = VisibleKeys(p.order.keys, p.order.causal, p.order.shift, query + j / 4 * 8 + j % 2 + 1);
      if (key + j / 2 % 2 * 8 >= visible) probabilities[j] = 0;
    }
  }

  // In the order of accumulators, four at a time.
  __device__ void StagePart(const float (&part)[kPart], int buffer, int group, int thread) const {
    auto* staged =
        reinterpret_cast<float4*>(shared + kTiling.dq_at() + buffer * kTiling.dq_bytes()) + group * kPart / 4 * kWarpGroupThreads;
#pragma unroll
    for (int j = 0; j < kPart / 4; ++j) {
      staged[j * kWarpGroupThreads + thread] = make_float4(part[4 * j], part[4 * j + 1], part[4 * j + 2], part[4 * j + 3]);
    }
  }

  // Through the shared memory of the keys and values that are done with.
  __device__ void Finish(float (&dk)[kGradient], float (&dv)[kGradient], const Tile& tile, int group, int thread, int row) const {
    const int lane = thread % kWarpThreads;
    BarrierSync(kDscoresBarrier, 2 * kWarpGroupThreads);  // both groups have read the keys
    const auto write = [&](float(&gradient)[kGradient], int at, float factor) {
#pragma unroll
      for (int j = 0; j < kGradient / 4; ++j) {
        const int column = 8 * j + lane % 4 * 2;
        *reinterpret_cast<std::uint32_t*>(shared + at + TileOffset(kKeys, row, column)) =
            PackBf16(gradient[4 * j] * factor, gradient[4 * j + 1] * factor);
        *reinterpret_cast<std::uint32_t*>(shared + at + TileOffset(kKeys, row + 8, column)) =
            PackBf16(gradient[4 * j + 2] * factor, gradient[4 * j + 3] * factor);
      }
    };
    write(dk, 0, p.scale);
    write(dv, kTiling.values_at(), 1);
    FenceSharedForAsync();
    BarrierSync(kGroupBarrier + group, kWarpGroupThreads);
    if (thread != 0) return;
    for (int panel = 0; panel < kPanels; ++panel) {
      const BoxCorner at{panel * kPanelColumns, tile.block * kKeys + group * kGroupRows, tile.key_head, tile.sample};
      const char* from = shared + (panel * kKeys + group * kGroupRows) * kPanelRowBytes;
      StoreBox(&p.dk, at, from);
      StoreBox(&p.dv, at, from + kTiling.values_at());
    }
    CommitStores();
    WaitStoresRead();
    barriers.kv_empty.Arrive();
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_BACKWARD_COMPUTE_CUH_
