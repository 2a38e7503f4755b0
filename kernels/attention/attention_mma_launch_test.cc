#include "kernels/attention/attention_mma_launch.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/attention/attention_ref.h"
#include "kernels/attention/attention_sight.h"

namespace lycia::cuda {
namespace {

using ::testing::HasSubstr;

AttentionProblem Problem(std::int64_t T, std::int64_t S, std::int64_t D, MaskKind mask) {
  return {
      .dtype = DType::kBF16, .samples = 2, .queries = T, .keys = S, .heads = 4, .kv_heads = 2, .head_dim = D, .scale = 0.1, .mask = mask};
}

TEST(MmaTiling, FitsTheSmallestChip) {
  for (const MmaTiling& t : {kMma64, kMma128, kMmaKeys64, kMmaKeys128}) {
    EXPECT_EQ(t.threads(), 128) << "the kernels' launch bounds";
    EXPECT_EQ(t.rows % 16, 0);
    EXPECT_EQ(t.step % 16, 0) << "two neighbours of a product are the depth of the next";
    EXPECT_LE(t.step / 2, 32) << "bits of what is hidden";
    EXPECT_LE(t.forward_bytes(), kMmaMostShared);
    EXPECT_LE(t.backward_bytes(), kMmaMostShared);
    EXPECT_EQ(t.row_bytes() % 1024, 0) << "tiles begin at whole swizzle patterns";
    EXPECT_EQ(t.step_bytes() % 1024, 0);
  }
  EXPECT_EQ(kMma64.forward_bytes(), 24 * 1024);
  EXPECT_LE(kMma128.forward_bytes(), kMmaSmallShared);
  EXPECT_LE(kMmaKeys64.backward_bytes(), kMmaSmallShared);
  // Sums of dk and dv, scores, dprobabilities, and both packed, stay in registers.
  for (const MmaTiling& t : {kMmaKeys64, kMmaKeys128}) EXPECT_LE(t.head_dim + t.step + t.step / 2 + 32, 255);
}

TEST(MmaTiling, FollowsTheProblem) {
  for (const int head_dim : {8, 40, 64}) {
    EXPECT_EQ(ChooseMmaTiling(Problem(9, 9, head_dim, MaskKind::kFull)), kMma64);
    EXPECT_EQ(ChooseMmaKeysTiling(Problem(9, 9, head_dim, MaskKind::kFull)), kMmaKeys64);
  }
  for (const int head_dim : {72, 128}) {
    EXPECT_EQ(ChooseMmaTiling(Problem(9, 9, head_dim, MaskKind::kFull)), kMma128);
    EXPECT_EQ(ChooseMmaKeysTiling(Problem(9, 9, head_dim, MaskKind::kFull)), kMmaKeys128);
  }
  EXPECT_EQ(MmaBackwardScratchBytes(Problem(9, 11, 64, MaskKind::kFull)), 2 * 4 * 9 * 4);
  EXPECT_LE(MmaBackwardScratchBytes(Problem(1000, 11, 64, MaskKind::kFull)),
            AttentionBackwardScratchBytes(Problem(1000, 11, 64, MaskKind::kFull)));
}

TEST(MmaTiling, GivesAReason) {
  AttentionProblem p = Problem(9, 9, 80, MaskKind::kFull);
  EXPECT_EQ(RejectMma(p), nullptr);
  p.dtype = DType::kF16, p.dropout.rate = 0.1, p.blocks.block = 64;
  EXPECT_EQ(RejectMma(p), nullptr);
  p.head_dim = 136;
  EXPECT_THAT(RejectMma(p), HasSubstr("at most 128"));
  p.head_dim = 100;
  EXPECT_THAT(RejectMma(p), HasSubstr("multiples"));
  p = Problem(9, 9, 64, MaskKind::kFull), p.dtype = DType::kF32;
  EXPECT_THAT(RejectMma(p), HasSubstr("bf16"));
  p = Problem(9, 9, 64, MaskKind::kFull), p.scale = -1;
  EXPECT_THAT(RejectMma(p), HasSubstr("positive"));
  alignas(16) char memory[32];
  EXPECT_EQ(RejectMmaView({memory, 4096, 128, 64}), nullptr);
  for (const ConstHeadsView& view : {ConstHeadsView(memory + 2, 4096, 128, 64), ConstHeadsView(memory, 4096, 132, 64)}) {
    EXPECT_THAT(RejectMmaView(view), HasSubstr("16 bytes"));
  }
}

AttentionSight SightOf(const AttentionProblem& p) {
  return {.queries = static_cast<int>(p.queries),
          .keys = static_cast<int>(p.keys),
          .causal = p.mask == MaskKind::kCausal,
          .shift = static_cast<int>(p.first_query - p.first_key),
          .offsets = p.sequence_offsets.data(),
          .num_offsets = static_cast<int>(p.sequence_offsets.size()),
          .block = static_cast<int>(p.blocks.block),
          .first = p.blocks.first.data(),
          .key_blocks = p.blocks.key_blocks.data()};
}

// What a kernel does with intervals, blocks and tiles shows the pairs that the specification shows, and none besides.
void ExpectSightOf(const AttentionProblem& p) {
  const AttentionSight sight = SightOf(p);
  const int queries = sight.queries, keys = sight.keys;
  const auto shown = [&](int query, int key) { return reference::Visible(p, query, key); };
  for (int query = 0; query < queries; ++query) {
    for (int key = 0; key < keys; ++key) {
      ASSERT_EQ(sight.KeysOf(query).Holds(key) && sight.InBlocks(query, key), shown(query, key)) << query << ' ' << key;
      ASSERT_EQ(sight.QueriesOf(key).Holds(query) && sight.InBlocks(query, key), shown(query, key)) << query << ' ' << key;
    }
  }
  for (const int tile : {16, 64}) {
    for (int query = 0; query < queries; query += tile) {
      for (int key = 0; key < keys; key += 16) {
        int seen = 0, possible = 0;
        for (int i = query; i < std::min(query + tile, queries); ++i) {
          for (int j = key; j < std::min(key + 16, keys); ++j) seen += shown(i, j), ++possible;
        }
        const Sight answer = sight.Of(query, tile, key, 16);
        if (answer == Sight::kNone) {
          ASSERT_EQ(seen, 0) << query << ' ' << key;
        }
        if (answer == Sight::kAll) {
          ASSERT_EQ(seen, possible) << query << ' ' << key;
          ASSERT_LE(key + 16, keys) << "keys that do not exist must be masked";
        }
        // And it skips, and does not mask, what it can.
        if (sight.num_offsets == 0 && seen == 0) {
          ASSERT_EQ(answer, Sight::kNone) << query << ' ' << key;
        }
        if (seen == possible && key + 16 <= keys) {
          ASSERT_EQ(answer, Sight::kAll) << query << ' ' << key;
        }
      }
      // The walk of a tile of queries meets every key that one of them sees.
      const Interval range = sight.KeysOfTile(query, tile);
      std::vector<bool> met(static_cast<std::size_t>(keys));
      for (int key = sight.NextKeys(query, tile, range.begin / 16 * 16, range.end, 16); key < range.end;
           key = sight.NextKeys(query, tile, key + 16, range.end, 16)) {
        for (int j = key; j < std::min(key + 16, keys); ++j) met[static_cast<std::size_t>(j)] = true;
      }
      for (int i = query; i < std::min(query + tile, queries); ++i) {
        for (int j = 0; j < keys; ++j) ASSERT_TRUE(!shown(i, j) || met[static_cast<std::size_t>(j)]) << i << ' ' << j;
      }
    }
    for (int key = 0; key < keys; key += tile) {
      const Interval range = sight.QueriesOfTile(key, tile);
      std::vector<bool> met(static_cast<std::size_t>(queries));
      for (int query = sight.NextQueries(key, tile, range.begin / 16 * 16, range.end, 16); query < range.end;
           query = sight.NextQueries(key, tile, query + 16, range.end, 16)) {
        for (int i = query; i < std::min(query + 16, queries); ++i) met[static_cast<std::size_t>(i)] = true;
      }
      for (int j = key; j < std::min(key + tile, keys); ++j) {
        for (int i = 0; i < queries; ++i) ASSERT_TRUE(!shown(i, j) || met[static_cast<std::size_t>(i)]) << i << ' ' << j;
      }
    }
  }
}

TEST(AttentionSight, OfCausalMasksAndOffsets) {
  for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
    for (const int shift : {-90, -17, 0, 5, 40, 200}) {
      AttentionProblem p = Problem(70, 90, 64, mask);
      p.first_query = std::max(0, shift), p.first_key = std::max(0, -shift);
      SCOPED_TRACE(shift);
      ExpectSightOf(p);
    }
  }
}

TEST(AttentionSight, OfPackedSequences) {
  const std::vector<std::int32_t> offsets = {0, 1, 30, 30, 64, 100, 130};  // an empty one among them
  for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
    AttentionProblem p = Problem(130, 130, 64, mask);
    p.sequence_offsets = offsets;
    ExpectSightOf(p);
  }
}

TEST(AttentionSight, OfBlocks) {
  const std::vector<std::int32_t> first = {0, 2, 5, 5, 6, 9}, key_blocks = {0, 3, 0, 1, 2, 4, 1, 2, 4};  // the third row sees nothing
  for (const MaskKind mask : {MaskKind::kFull, MaskKind::kCausal}) {
    for (const int block : {10, 16, 64}) {
      AttentionProblem p = Problem(5 * block - 3, 5 * block - 7, 64, mask);
      p.blocks = {.block = block, .first = first, .key_blocks = key_blocks};
      SCOPED_TRACE(block);
      const AttentionSight sight = SightOf(p);
      if (mask == MaskKind::kFull) {
        ExpectSightOf(p);
      } else {  // a tile may be at the edge of both masks and show nothing
        for (int query = 0; query < sight.queries; ++query) {
          for (int key = 0; key < sight.keys; ++key) {
            ASSERT_EQ(sight.KeysOf(query).Holds(key) && sight.InBlocks(query, key), reference::Visible(p, query, key));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace lycia::cuda
