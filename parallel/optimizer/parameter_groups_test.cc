// A wrong derivation would still pass with one stage a parameter; so shared ones, padding and uneven cuts are what is tested.
#include "parallel/optimizer/parameter_groups.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

constexpr std::int64_t kBlock = kNormBlock;

// Three stages; "tied" is used by the first and the last, "three" by all, and stage 1 has nothing of its own.
std::vector<std::vector<ParameterSpec>> Stages() {
  return {{{.name = "tied", .shape = {5, 3}}, {.name = "b", .shape = {7}}, {.name = "three", .shape = {2}}},
          {{.name = "three", .shape = {2}, .use = 1}},
          {{.name = "c", .shape = {kBlock + 1}},
           {.name = "tied", .shape = {5, 3}, .use = 1},
           {.name = "a", .shape = {20}},
           {.name = "three", .shape = {2}, .use = 2}}};
}

std::vector<std::string> NamesOf(const ParameterGroup& group) {
  std::vector<std::string> names;
  for (const PlacedParameter& p : group.parameters) names.push_back(p.spec.name);
  return names;
}

TEST(ParameterGroups, AreTheStagesThenTheSharedSetsInOrder) {
  const ParameterGroups groups = *DeriveParameterGroups(Stages());
  ASSERT_EQ(groups.groups.size(), 5u);
  const std::vector<std::vector<int>> stages = {{0}, {1}, {2}, {0, 1, 2}, {0, 2}};
  const std::vector<std::vector<std::string>> names = {{"b"}, {}, {"a", "c"}, {"three"}, {"tied"}};
  for (std::size_t g = 0; g < stages.size(); ++g) {
    EXPECT_EQ(groups.groups[g].stages, stages[g]) << g;
    EXPECT_EQ(NamesOf(groups.groups[g]), names[g]) << g;
  }
  EXPECT_EQ(groups.num_parameters, 15 + 7 + 2 + kBlock + 1 + 20);  // each once
}

TEST(ParameterGroups, OffsetsArePaddedAndNormBlocksFollowTheNames) {
  const ParameterGroups groups = *DeriveParameterGroups(Stages());
  const ParameterGroup& last = groups.groups[2];
  EXPECT_EQ(last.parameters[0].offset, 0);
  EXPECT_EQ(last.parameters[1].offset, 32);  // 20 elements padded to 16
  EXPECT_EQ(last.elements, 32 + kBlock + 16);
  EXPECT_EQ(groups.groups[1].elements, 0);
  // a, b, c (two blocks), three, tied
  EXPECT_EQ(last.parameters[0].first_block, 0);
  EXPECT_EQ(groups.groups[0].parameters[0].first_block, 1);
  EXPECT_EQ(last.parameters[1].first_block, 2);
  EXPECT_EQ(groups.groups[3].parameters[0].first_block, 4);
  EXPECT_EQ(groups.groups[4].parameters[0].first_block, 5);
  EXPECT_EQ(groups.num_norm_blocks, 6);
}

// Stages on which nothing depends must not change the placement: the checkpoint of one layout is read by another through names alone, but
// norm blocks must be the same on every layout.
TEST(ParameterGroups, NormBlocksDoNotDependOnThePartition) {
  std::vector<ParameterSpec> all;
  for (const auto& stage : Stages()) all.insert(all.end(), stage.begin(), stage.end());
  const ParameterGroups one = *DeriveParameterGroups({all}), three = *DeriveParameterGroups(Stages());
  ASSERT_EQ(one.groups.size(), 1u);  // all on one stage: nothing is shared
  EXPECT_EQ(one.num_norm_blocks, three.num_norm_blocks);
  EXPECT_EQ(one.num_parameters, three.num_parameters);
  for (const ParameterGroup& group : three.groups) {
    for (const PlacedParameter& p : group.parameters) {
      for (const PlacedParameter& q : one.groups[0].parameters) {
        EXPECT_TRUE(q.spec.name != p.spec.name || q.first_block == p.first_block) << p.spec.name;
      }
    }
  }
}

TEST(ParameterGroups, OneNameMustHaveOneMeaning) {
  const ParameterSpec spec{.name = "w", .shape = {4, 2}, .initial = Initial::kNormal, .std = 0.1, .decay = true};
  EXPECT_TRUE(DeriveParameterGroups({{spec}, {spec}}).ok());
  ParameterSpec shape = spec, std = spec, decay = spec, shard = spec;
  shape.shape = {2, 4};
  std.std = 0.2;
  decay.decay = false;
  shard.shard = ShardPolicy::kWholeTensor;
  for (const ParameterSpec& other : {shape, std, decay, shard}) {
    const Status status = DeriveParameterGroups({{spec}, {other}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("parameter w is declared twice and differently"), absl::string_view::npos) << status;
  }
}

// Every cut lies between norm blocks, whole tensors stay whole, and shards are as even as that allows.
TEST(ShardOffsets, CutOnlyBetweenNormBlocks) {
  const ParameterGroups groups = *DeriveParameterGroups({{{.name = "a", .shape = {3 * kBlock + 5}},
                                                          {.name = "b", .shape = {10}},
                                                          {.name = "w", .shape = {4 * kBlock}, .shard = ShardPolicy::kWholeTensor}}});
  const ParameterGroup& group = groups.groups[0];
  const std::int64_t a_end = group.parameters[1].offset, w = group.parameters[2].offset;
  const std::set<std::int64_t> allowed = {0, kBlock, 2 * kBlock, 3 * kBlock, a_end, w, group.elements};
  for (int ranks = 1; ranks <= 9; ++ranks) {
    const std::vector<std::int64_t> offsets = ShardOffsets(group, ranks);
    ASSERT_EQ(offsets.size(), static_cast<std::size_t>(ranks) + 1);
    EXPECT_EQ(offsets.front(), 0);
    EXPECT_EQ(offsets.back(), group.elements);
    for (std::size_t r = 0; r + 1 < offsets.size(); ++r) {
      EXPECT_LE(offsets[r], offsets[r + 1]) << "ranks " << ranks;
      EXPECT_TRUE(allowed.contains(offsets[r])) << "ranks " << ranks << " cut " << offsets[r];
    }
  }
  EXPECT_EQ(ShardOffsets(group, 2)[1], w);  // the middle, 3.5 blocks, is nearest to w of all places
}

TEST(ShardOffsets, AreEvenWhereBlocksAreMany) {
  const ParameterGroups groups = *DeriveParameterGroups({{{.name = "a", .shape = {64 * kBlock}}}});
  for (const int ranks : {2, 3, 4, 7, 8}) {
    const std::vector<std::int64_t> offsets = ShardOffsets(groups.groups[0], ranks);
    for (int r = 0; r < ranks; ++r) {
      const std::int64_t size = offsets[static_cast<std::size_t>(r) + 1] - offsets[static_cast<std::size_t>(r)];
      EXPECT_LE(std::abs(size * ranks - 64 * kBlock), ranks * kBlock) << "rank " << r << " of " << ranks;
    }
  }
}

// More ranks than blocks, and a group without parameters: empty shards, no rank left out.
TEST(ShardOffsets, MayBeEmpty) {
  const ParameterGroups groups = *DeriveParameterGroups({{{.name = "a", .shape = {3}}}, {}});
  const std::vector<std::int64_t> one = ShardOffsets(groups.groups[0], 4);
  EXPECT_EQ(one.front(), 0);
  EXPECT_EQ(one.back(), 16);
  int owners = 0;
  for (int r = 0; r < 4; ++r) owners += one[static_cast<std::size_t>(r)] < one[static_cast<std::size_t>(r) + 1] ? 1 : 0;
  EXPECT_EQ(owners, 1);
  EXPECT_EQ(ShardOffsets(groups.groups[1], 3), (std::vector<std::int64_t>{0, 0, 0, 0}));
}

// The segments of all shards cover every element of every parameter exactly once and no padding.
TEST(SegmentsOf, CoverEveryElementOnce) {
  const ParameterGroups groups = *DeriveParameterGroups(Stages());
  for (const ParameterGroup& group : groups.groups) {
    for (int ranks = 1; ranks <= 5; ++ranks) {
      std::vector<int> times(static_cast<std::size_t>(group.elements), 0);
      const std::vector<std::int64_t> offsets = ShardOffsets(group, ranks);
      for (int r = 0; r < ranks; ++r) {
        for (const Segment& s : SegmentsOf(group, offsets[static_cast<std::size_t>(r)], offsets[static_cast<std::size_t>(r) + 1])) {
          EXPECT_EQ(s.begin % kBlock, 0);  // a block has one owner
          for (std::int64_t i = s.begin; i < s.end; ++i) ++times[static_cast<std::size_t>(s.parameter->offset + i)];
        }
      }
      for (const PlacedParameter& p : group.parameters) {
        for (std::int64_t i = 0; i < p.elements; ++i)
          ASSERT_EQ(times[static_cast<std::size_t>(p.offset + i)]--, 1) << p.spec.name << " " << i;
      }
      for (const int rest : times) ASSERT_EQ(rest, 0) << "padding is no one's";
    }
  }
}

}  // namespace
}  // namespace lycia
