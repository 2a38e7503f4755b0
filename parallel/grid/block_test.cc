// Which elements a block is made of, as hand-made cases and against a loop over its elements.
#include "parallel/grid/block.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

// Rows 1, 2 and padding, columns 3, 4, 0 of a 4 x 5 matrix, cut after the second element and before the last two.
TEST(BlockTest, RunsOfABlock) {
  const Block block{.tensor_columns = 5, .rows = {{1, 2}, {-1, 1}}, .columns = {{3, 2}, {0, 1}}};
  EXPECT_EQ(block.elements(), 9);
  std::vector<std::int64_t> flat;
  for (const ElementRun& run : Runs(block, 0, 9)) {
    for (std::int64_t i = 0; i < run.count; ++i) flat.push_back(run.tensor < 0 ? -1 : run.tensor + i);
  }
  EXPECT_EQ(flat, (std::vector<std::int64_t>{8, 9, 5, 13, 14, 10, -1, -1, -1}));
  const std::vector<ElementRun> part = Runs(block, 1, 8);
  ASSERT_EQ(part.size(), 5u);
  EXPECT_EQ(part[0].tensor, 9);
  EXPECT_EQ(part[2].local, 2);
  EXPECT_EQ(part[2].tensor, 13);
  EXPECT_EQ(part[4].tensor, -1);
  EXPECT_EQ(part[4].count, 2);
}

TEST(BlockTest, PaddedPartsCoverEverySizeOnce) {
  EXPECT_EQ(PaddedPart(7, 3, 0), (std::vector<IndexRange>{{0, 3}}));
  EXPECT_EQ(PaddedPart(7, 3, 2), (std::vector<IndexRange>{{6, 1}, {-1, 2}}));
  EXPECT_EQ(PaddedPart(7, 2, 4), (std::vector<IndexRange>{{-1, 2}}));  // 7 on 5 parts: the last has padding only
}

// The definition: element (r, c) of the block, one by one; -1 for padding.
std::vector<std::int64_t> ElementByElement(const Block& block) {
  std::vector<std::int64_t> flat;
  for (const IndexRange& rows : block.rows) {
    for (std::int64_t r = 0; r < rows.count; ++r) {
      for (const IndexRange& columns : block.columns) {
        for (std::int64_t c = 0; c < columns.count; ++c) {
          const bool padding = rows.first < 0 || columns.first < 0;
          flat.push_back(padding ? -1 : (rows.first + r) * block.tensor_columns + columns.first + c);
        }
      }
    }
  }
  return flat;
}

std::vector<IndexRange> RandomRanges(const RandomStream& random, std::int64_t size, std::uint64_t* draw) {
  const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random.Bits((*draw)++)) % n; };
  if (below(3) == 0) return {{0, size}};
  std::vector<IndexRange> ranges;
  for (std::int64_t at = 0; at < size;) {  // in rising order, with holes
    const std::int64_t first = std::min(size - 1, at + below(3)), count = 1 + below(size - first);
    ranges.push_back({first, count});
    at = first + count;
  }
  if (below(2) == 0) std::reverse(ranges.begin(), ranges.end());
  if (below(3) == 0) ranges.push_back({-1, 1 + below(3)});
  if (below(5) == 0) ranges.insert(ranges.begin(), {-1, 1});
  return ranges;
}

// Every range of random blocks: the runs are the definition's elements, as few as there can be; and PlaceRuns takes them out of the tensor.
TEST(BlockTest, RunsAndPlacesAreThoseOfTheDefinition) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const RandomStream random(seed, "block", 0);
    std::uint64_t draw = 0;
    const std::int64_t rows = 1 + random.Bits(draw++) % 6, columns = 1 + random.Bits(draw++) % 7;
    Block block{.tensor_columns = columns};
    block.rows = RandomRanges(random, rows, &draw);
    block.columns = RandomRanges(random, columns, &draw);
    ASSERT_TRUE(CheckBlock(block, rows * columns).ok()) << seed << ": " << CheckBlock(block, rows * columns);
    const std::vector<std::int64_t> flat = ElementByElement(block);
    ASSERT_EQ(static_cast<std::int64_t>(flat.size()), block.elements());
    std::vector<std::int16_t> tensor;
    for (std::int64_t i = 0; i < rows * columns; ++i) tensor.push_back(static_cast<std::int16_t>(100 + i));
    for (std::int64_t begin = 0; begin <= block.elements(); ++begin) {
      for (std::int64_t end = begin; end <= block.elements(); ++end) {
        std::vector<std::int64_t> seen;
        std::int64_t last = -2;  // what an element that joins the last run would be
        for (const ElementRun& run : Runs(block, begin, end)) {
          ASSERT_EQ(run.local, static_cast<std::int64_t>(seen.size())) << seed;
          ASSERT_FALSE(run.tensor < 0 ? last == -1 : last == run.tensor) << seed << ": two runs that are one";
          for (std::int64_t i = 0; i < run.count; ++i) seen.push_back(run.tensor < 0 ? -1 : run.tensor + i);
          last = run.tensor < 0 ? -1 : run.tensor + run.count;
        }
        ASSERT_EQ(seen, std::vector<std::int64_t>(flat.begin() + begin, flat.begin() + end)) << seed << " [" << begin << ", " << end << ")";
        std::vector<std::int16_t> to(seen.size() + 1, -7), expected;
        PlaceRuns(block, {.tensor = tensor.data(), .to = to.data(), .begin = begin, .end = end, .element_bytes = 2});
        for (const std::int64_t element : seen) expected.push_back(element < 0 ? 0 : static_cast<std::int16_t>(100 + element));
        expected.push_back(-7);  // nothing beyond the part is touched
        ASSERT_EQ(to, expected) << seed << " [" << begin << ", " << end << ")";
      }
    }
  }
}

TEST(BlockTest, WhatIsNoBlockIsRefusedWithTheNumbers) {
  const auto refusal = [](const Block& block) { return std::string(CheckBlock(block, 20).message()); };
  EXPECT_EQ(refusal({5, {{0, 4}}, {{0, 5}}}), "");
  EXPECT_EQ(refusal({5, {{-1, 9}, {3, 1}}, {{4, 1}, {-1, 2}, {0, 4}}}), "");
  EXPECT_THAT(refusal({6, {{0, 1}}, {{0, 5}}}), HasSubstr("20 elements are no whole number of rows of 6"));
  EXPECT_THAT(refusal({-5, {{0, 1}}, {{0, 5}}}), HasSubstr("rows of -5"));
  EXPECT_THAT(refusal({5, {{1, 4}}, {{0, 5}}}), HasSubstr("row 1 + 4 are not within 4"));
  EXPECT_THAT(refusal({5, {{1, -1}}, {{0, 5}}}), HasSubstr("row 1 + -1"));
  EXPECT_THAT(refusal({5, {{0, 4}}, {{std::int64_t{1} << 62, std::int64_t{1} << 62}}}), HasSubstr("are not within 5"));
  EXPECT_THAT(refusal({5, {{0, 4}}, {{2, 2}, {0, 3}}}), HasSubstr("names column 2 twice"));
  EXPECT_THAT(refusal({5, {{-1, std::int64_t{1} << 62}, {-1, std::int64_t{1} << 62}}, {{0, 5}}}), HasSubstr("overflow"));
  EXPECT_THAT(refusal({5, {{-1, std::int64_t{1} << 62}}, {{0, 5}}}), HasSubstr("overflows 63 bits"));
}

}  // namespace
}  // namespace lycia
