#include "kernels/attention/attention_cuda_launch.h"

#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/attention/attention_backward_cuda_launch.h"
#include "kernels/attention/attention_ref.h"
#include "runtime/device/compute_capability.h"

namespace lycia::cuda {
namespace {

using ::testing::HasSubstr;

AttentionProblem Problem(std::int64_t T, std::int64_t S, std::int64_t D, MaskKind mask) {
  return {
      .dtype = DType::kBF16, .samples = 2, .queries = T, .keys = S, .heads = 4, .kv_heads = 2, .head_dim = D, .scale = 0.1, .mask = mask};
}

TEST(AttentionTiling, FitsTheMultiprocessor) {
  for (const ForwardTiling& t : {kForward64, kForward128, kForward128Causal}) {
    EXPECT_EQ(t.barriers_at(), 2 * (2 * 64 * t.consumers * t.head_dim) + 2 * t.stages * (2 * t.keys * t.head_dim));
    EXPECT_LE(t.shared_bytes(), 232448);  // cudaDevAttrMaxSharedMemoryPerBlockOptin of compute capability 9.0
    EXPECT_EQ(t.keys % 16, 0) << "whole steps of the second product";
    // setmaxnreg: the groups share what the block was launched with.
    const int launched = 65536 / t.threads() / 8 * 8;
    EXPECT_LE(ProducerRegisters(t.consumers) + t.consumers * ConsumerRegisters(t.consumers), launched * (t.consumers + 1));
    EXPECT_EQ(ProducerRegisters(t.consumers) % 8, 0);
    EXPECT_EQ(ConsumerRegisters(t.consumers) % 8, 0);
    // Accumulators of scores and out, and probabilities packed by twos, stay in registers.
    EXPECT_LE(t.keys / 2 + t.head_dim / 2 + t.keys / 4 + 16, ConsumerRegisters(t.consumers));
    for (const int panel : {t.out_at(), t.keys_at(), t.values_at(), t.keys_at() + t.key_bytes(), 64 * t.consumers * 128, t.keys * 128}) {
      EXPECT_EQ(panel % 1024, 0) << "panels begin at whole swizzle patterns";
    }
  }
  for (const BackwardTiling& t : {kBackward64, kBackward128}) {
    const int keys = 2 * (2 * 128 * t.head_dim), steps = t.stages * (2 * (2 * t.queries * t.head_dim) + 2 * (4 * t.queries));
    EXPECT_EQ(t.barriers_at(), keys + steps + 2 * (2 * 128 * t.queries + 4 * t.queries * t.head_dim)) << "two of dscores and dq";
    EXPECT_LE(t.shared_bytes(), 232448);
    EXPECT_EQ(t.dscores_at() % 1024, 0);
    EXPECT_EQ(t.queries / 64 * (t.head_dim / 64), 2) << "two parts of dq, one a warp group";
  }
}

TEST(AttentionTiling, FollowsTheProblem) {
  EXPECT_EQ(ChooseForwardTiling(Problem(9, 9, 64, MaskKind::kFull)), kForward64);
  EXPECT_EQ(ChooseForwardTiling(Problem(9, 9, 128, MaskKind::kFull)), kForward128);
  EXPECT_EQ(ChooseForwardTiling(Problem(9, 9, 128, MaskKind::kCausal)), kForward128Causal);
  EXPECT_EQ(ChooseBackwardTiling(Problem(9, 9, 64, MaskKind::kFull)), kBackward64);
  EXPECT_EQ(ChooseBackwardTiling(Problem(9, 9, 128, MaskKind::kFull)), kBackward128);
}

TEST(AttentionTiling, WantsAlignedRows) {
  alignas(16) char memory[32];
  EXPECT_EQ(RejectHopperView({memory, 4096, 128, 64}), nullptr);
  EXPECT_EQ(RejectHopperView({memory + 16, 0, 8, 8}), nullptr);
  for (const ConstHeadsView& view : {ConstHeadsView(memory + 2, 4096, 128, 64), ConstHeadsView(memory, 4097, 128, 64),
                                     ConstHeadsView(memory, 4096, 132, 64), ConstHeadsView(memory, 4096, 128, 12)}) {
    ASSERT_NE(RejectHopperView(view), nullptr);
    EXPECT_THAT(RejectHopperView(view), HasSubstr("16 bytes"));
  }
}

TEST(AttentionTiling, GivesAReason) {
  AttentionProblem p = Problem(9, 9, 128, MaskKind::kFull);
  EXPECT_EQ(RejectHopper(p, kHopperCapability), nullptr);
  // Neither older nor newer chips have wgmma.
  for (const int capability : {80, 86, 89, 100, 120}) EXPECT_THAT(RejectHopper(p, capability), HasSubstr("capability 9.0"));
  p.head_dim = 80;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("64 or 128"));
  p = Problem(9, 9, 64, MaskKind::kFull), p.dtype = DType::kF32;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("bf16"));
  p = Problem(9, 9, 64, MaskKind::kFull), p.dropout.rate = 0.1;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("dropout"));
  p = Problem(9, 9, 64, MaskKind::kFull), p.scale = -1;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("positive"));
  p = Problem(9, 9, 64, MaskKind::kFull), p.blocks.block = 64;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("block mask"));
  const std::vector<std::int32_t> offsets = {0, 9};
  p = Problem(9, 9, 64, MaskKind::kFull), p.sequence_offsets = offsets;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("packed"));
  p = Problem(std::int64_t{1} << 31, 9, 64, MaskKind::kFull);
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("sizes are counted in 30 bits"));
  p = Problem(9, std::int64_t{1} << 29, 64, MaskKind::kFull), p.samples = 1000;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("tiles are counted in 30 bits"));
  p = Problem(9, 9, 64, MaskKind::kFull), p.samples = 65536;
  EXPECT_THAT(RejectHopper(p, kHopperCapability), HasSubstr("65,535"));
}

TEST(VisibleKeys, IsTheMaskOfTheSpecification) {
  for (const int shift : {-40, -3, 0, 7, 60}) {
    for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
      AttentionProblem p = Problem(30, 50, 64, mask);
      p.first_query = std::max(0, shift), p.first_key = std::max(0, -shift);
      for (int end = 1; end <= 30; ++end) {
        int seen = 0;
        for (int key = 0; key < 50; ++key) seen += reference::Visible(p, end - 1, key) ? 1 : 0;
        EXPECT_EQ(VisibleKeys(50, mask == MaskKind::kCausal, shift, end), seen) << "shift " << shift << " end " << end;
      }
    }
  }
}

TEST(TileOrder, VisitsEveryTileOnceAndLongTilesFirst) {
  for (const TileOrder order : {TileOrder{1, 1, 1}, TileOrder{5, 7, 3}, TileOrder{64, 32, 6}, TileOrder{3, 4, 4}}) {
    std::set<std::pair<int, int>> seen;
    AttentionTile before;
    for (int i = 0; i < order.tiles(); ++i) {
      const AttentionTile tile = order.At(i);
      EXPECT_TRUE(tile.query_tile >= 0 && tile.query_tile < order.query_tiles && tile.head >= 0 && tile.head < order.heads);
      EXPECT_TRUE(seen.insert({tile.query_tile, tile.head}).second);
      const int section = tile.head / order.section, section_before = before.head / order.section;
      EXPECT_TRUE(i == 0 || section > section_before || (section == section_before && tile.query_tile <= before.query_tile)) << i;
      before = tile;
    }
  }
}

// 16 key heads of 8,192 keys and values of 128 features are 64 MiB: of an L2 of 50 MB half holds 5 of them, or 20 heads by fours.
TEST(TileOrder, SectionsStayInTheCache) {
  AttentionProblem p = Problem(8192, 8192, 128, MaskKind::kCausal);
  p.samples = 1, p.heads = p.kv_heads = 16;
  EXPECT_EQ(ChooseTileOrder(p, 128, 50'000'000), (TileOrder{64, 16, 5}));
  p.heads = 64;
  EXPECT_EQ(ChooseTileOrder(p, 128, 50'000'000), (TileOrder{64, 64, 23}));
  p.queries = 1;
  EXPECT_EQ(ChooseTileOrder(p, 128, 1000), (TileOrder{1, 64, 1}));
}

struct OrderCase {
  int T, S, tile_queries, shift;
  bool causal;
};
constexpr OrderCase kOrders[] = {{1, 1, 64, 0, false},        {1, 1, 64, 0, true},         {8192, 8192, 64, 0, true},
                                 {1000, 1000, 128, 0, true},  {512, 512, 64, 0, false},    {1537, 400, 64, 0, false},
                                 {100, 3000, 64, 0, false},   {300, 3000, 64, 2700, true}, {700, 900, 64, -250, true},
                                 {700, 900, 128, 333, true},  {64, 5000, 64, -100, true},  {2500, 129, 128, 17, true},
                                 {8192, 20000, 64, 0, false}, {333, 5, 64, 2000, true}};

DqOrder Order(const OrderCase& c, int multiprocessors) {
  AttentionProblem p = Problem(c.T, c.S, 128, c.causal ? MaskKind::kCausal : MaskKind::kFull);
  p.first_query = std::max(0, c.shift), p.first_key = std::max(0, -c.shift);
  return ChooseDqOrder(p, {.head_dim = c.tile_queries == 64 ? 128 : 64, .queries = c.tile_queries}, multiprocessors);
}

TEST(DqOrder, IsTheWorkedExample) {
  const DqOrder order = Order({512, 512, 64, 0, false}, 132);
  EXPECT_EQ(order.group, 4);
  const int starts[] = {0, 2, 4, 6}, ranks[] = {2, 1, 0, 3};  // of query block 5: 2, 1, 0, 3
  for (int n = 0; n < 4; ++n) {
    EXPECT_EQ(order.At(n, 0), starts[n]);
    EXPECT_EQ(order.Rank(n, 5), ranks[n]);
  }
}

// A key block visits exactly the query blocks that see it, once; those of a query block add one after the other.
TEST(DqOrder, EveryQueryBlockReceivesItsKeyBlocksInOneOrder) {
  for (const OrderCase& c : kOrders) {
    for (const int multiprocessors : {1, 7, 132}) {
      const DqOrder order = Order(c, multiprocessors);
      SCOPED_TRACE(StrCat("T ", c.T, " S ", c.S, " shift ", c.shift, " causal ", c.causal, " group ", order.group));
      EXPECT_LE(order.group, multiprocessors);
      std::vector<std::set<int>> ranks(static_cast<std::size_t>(order.query_blocks));
      for (int n = 0; n < order.key_blocks; ++n) {
        for (int step = 0; step < order.Steps(n); ++step) {
          const int m = order.At(n, step);
          ASSERT_TRUE(m >= 0 && m < order.query_blocks);
          const int last_query = std::min(c.T, (m + 1) * c.tile_queries) - 1;
          EXPECT_TRUE(!c.causal || n * 128 <= last_query + c.shift) << "key block " << n << " is not seen by " << m;
          EXPECT_TRUE(ranks[static_cast<std::size_t>(m)].insert(order.Rank(n, m)).second) << n << ' ' << m;
          EXPECT_TRUE(step + 1 == order.Steps(n) || order.At(n, step + 1) == order.After(m)) << n << ' ' << m;
        }
      }
      for (int m = 0; m < order.query_blocks; ++m) {
        const int last_query = std::min(c.T, (m + 1) * c.tile_queries) - 1;
        int seen = 0;
        for (int n = 0; n < order.key_blocks; ++n) seen += !c.causal || n * 128 <= last_query + c.shift ? 1 : 0;
        const auto& r = ranks[static_cast<std::size_t>(m)];
        EXPECT_EQ(order.SeenBy(m), seen);
        ASSERT_EQ(static_cast<int>(r.size()), seen);
        EXPECT_TRUE(seen == 0 || (*r.begin() == 0 && *r.rbegin() == seen - 1));
      }
    }
  }
}

// Blocks are begun in order by as many multiprocessors as there are, and wait for their turn: they all end.
TEST(DqOrder, NeverWaitsForABlockThatIsNotBegun) {
  for (const OrderCase& c : kOrders) {
    for (const int multiprocessors : {1, 2, 7, 132}) {
      const DqOrder order = Order(c, multiprocessors);
      const int heads = 3, all = heads * order.key_blocks;
      struct Machine {
        int block = -1, step = 0;
      };
      std::vector<Machine> machines(static_cast<std::size_t>(multiprocessors));
      std::vector<int> added(static_cast<std::size_t>(heads * order.query_blocks));
      int begun = 0, ended = 0;
      bool moved = true;
      while (ended < all && moved) {
        moved = false;
        for (Machine& machine : machines) {
          if (machine.block < 0 && begun < all) machine = {begun++, 0}, moved = true;
          if (machine.block < 0) continue;
          const int n = order.BlockAt(machine.block % order.key_blocks);
          if (machine.step == order.Steps(n)) {
            machine.block = -1, ++ended, moved = true;
            continue;
          }
          const int m = order.At(n, machine.step);
          int& count = added[static_cast<std::size_t>(machine.block / order.key_blocks * order.query_blocks + m)];
          if (count == order.Rank(n, m)) ++count, ++machine.step, moved = true;
        }
      }
      EXPECT_EQ(ended, all) << "stuck: T " << c.T << " S " << c.S << " causal " << c.causal << " on " << multiprocessors;
    }
  }
}

TEST(BackwardScratch, PartsFollowEachOther) {
  const AttentionProblem p = Problem(130, 77, 128, MaskKind::kCausal);  // 2 samples, 4 heads, 3 blocks of 64 queries
  const BackwardScratchPlan plan = PlanBackwardScratch(p);
  EXPECT_EQ(plan, (BackwardScratchPlan{.rows = 192,
                                       .log_sum_exp_at = 0,
                                       .delta_at = 8 * 192 * 4,
                                       .dq_at = 2 * 8 * 192 * 4,
                                       .added_at = 2 * 8 * 192 * 4 + 8 * 192 * 128 * 4,
                                       .ticket_at = 2 * 8 * 192 * 4 + 8 * 192 * 128 * 4 + 128,
                                       .bytes = 2 * 8 * 192 * 4 + 8 * 192 * 128 * 4 + 256}));
  EXPECT_EQ(AttentionBackwardScratchBytes(p), plan.bytes);
}

}  // namespace
}  // namespace lycia::cuda
