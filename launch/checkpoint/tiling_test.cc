// Rectangles, tiling and the way back, against arrays with one entry an element.
#include "launch/checkpoint/tiling.h"

#include <cstdio>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/checkpoint/block_index.h"
#include "launch/checkpoint/test_grid.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

// How often the parts hold each element of the tensor.
std::vector<int> CountElements(std::int64_t elements, const std::vector<BlockPart>& parts) {
  std::vector<int> count(static_cast<std::size_t>(elements), 0);
  for (const BlockPart& part : parts) {
    for (const ElementRun& run : Runs(*part.block, part.begin, part.end)) {
      for (std::int64_t i = 0; run.tensor >= 0 && i < run.count; ++i) ++count[static_cast<std::size_t>(run.tensor + i)];
    }
  }
  return count;
}

// A matrix cut by a random grid.
struct Cut {
  explicit Cut(std::uint64_t seed) {
    const RandomStream random(seed, "cut", 0);
    rows = 1 + random.Bits(0) % 12;
    columns = 1 + random.Bits(1) % 12;
    const TestGrid grid = RandomTestGrid(seed, 4);
    for (int rank = 0; rank < grid.ranks(); ++rank) {
      for (Piece& piece : PiecesOfRank({{"w", {DType::kF32, {rows, columns}}}}, grid, rank)) {
        if (piece.block.rows.empty()) piece.block = {.tensor_columns = columns, .rows = {{0, rows}}, .columns = {{0, columns}}};
        pieces.push_back(std::move(piece));
      }
    }
    for (const Piece& piece : pieces) parts.push_back({&piece.block, piece.begin, piece.end});
  }
  std::int64_t rows = 0, columns = 0;
  std::vector<Piece> pieces;
  std::vector<BlockPart> parts;
};

TEST(TilingTest, EveryElementOfARandomGridIsOwnedOnce) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Cut cut(seed);
    ASSERT_EQ(CountElements(cut.rows * cut.columns, cut.parts), std::vector<int>(static_cast<std::size_t>(cut.rows * cut.columns), 1))
        << seed;
    EXPECT_TRUE(CheckTiling(cut.rows * cut.columns, cut.parts).ok()) << seed << ": " << CheckTiling(cut.rows * cut.columns, cut.parts);
  }
}

// A part dropped, given twice, cut short or moved by one: an error that names elements of which it is true, unless it was padding.
TEST(TilingTest, WrongPartsAreToldWithTheirElements) {
  int wrong = 0, missing = 0, twice = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Cut cut(seed % 500);
    const RandomStream random(seed, "damage", 0);
    const std::size_t victim = random.Bits(0) % cut.parts.size();
    BlockPart& part = cut.parts[victim];
    switch (random.Bits(1) % 4) {
      case 0:
        cut.parts.erase(cut.parts.begin() + static_cast<std::ptrdiff_t>(victim));
        break;
      case 1:
        cut.parts.push_back(BlockPart(part));
        break;
      case 2:
        part.begin += part.begin < part.end ? 1 : 0;
        break;
      default:
        if (part.end < part.block->elements()) ++part.begin, ++part.end;
    }
    if (cut.parts.empty()) continue;
    const std::vector<int> count = CountElements(cut.rows * cut.columns, cut.parts);
    const bool sound = std::all_of(count.begin(), count.end(), [](int n) { return n == 1; });
    const Status status = CheckTiling(cut.rows * cut.columns, cut.parts);
    ASSERT_EQ(status.ok(), sound) << seed << ": " << status;
    if (sound) continue;
    ++wrong;
    int begin = -1, end = -1, read = 0;
    const std::string message(status.message());
    ASSERT_EQ(std::sscanf(message.c_str(), "elements %d to %d are %n", &begin, &end, &read), 2) << message;
    const bool is_missing = message.substr(static_cast<std::size_t>(read)) == "missing";
    ASSERT_TRUE(is_missing || message.substr(static_cast<std::size_t>(read)) == "stored twice") << message;
    ++(is_missing ? missing : twice);
    ASSERT_LT(begin, end) << message;
    for (int i = begin; i < end; ++i) ASSERT_EQ(count[static_cast<std::size_t>(i)], is_missing ? 0 : 2) << seed << ": " << message;
  }
  EXPECT_GT(wrong, 1500);
  EXPECT_GT(missing, 500);
  EXPECT_GT(twice, 200);
}

TEST(TilingTest, RectanglesAreThePartsElements) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Cut cut(seed);
    for (const BlockPart& part : cut.parts) {
      std::vector<int> count(static_cast<std::size_t>(cut.rows * cut.columns), 0);
      for (const Rectangle& of : Rectangles(part)) {
        for (std::int64_t r = of.row_begin; r < of.row_end; ++r) {
          for (std::int64_t c = of.column_begin; c < of.column_end; ++c) ++count[static_cast<std::size_t>(r * cut.columns + c)];
        }
      }
      ASSERT_EQ(count, CountElements(cut.rows * cut.columns, {part})) << seed;
    }
  }
}

TEST(BlockIndexTest, FindsWhatRunsTell) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Cut cut(seed);
    const std::int64_t elements = cut.rows * cut.columns;
    for (const BlockPart& part : cut.parts) {
      std::vector<std::int64_t> local(static_cast<std::size_t>(elements), -1);
      for (const ElementRun& run : Runs(*part.block, part.begin, part.end)) {
        for (std::int64_t i = 0; run.tensor >= 0 && i < run.count; ++i) local[static_cast<std::size_t>(run.tensor + i)] = run.local + i;
      }
      const BlockIndex index(part);
      std::int64_t found = 0, outside = 0;
      const IndexRange within = ElementsWithin(*part.block, index.first(), index.last());
      for (std::int64_t element = 0; element < elements;) {
        const BlockIndex::Place place = index.Find(element);
        ASSERT_GT(place.count, 0) << seed;
        for (std::int64_t i = 0; i < place.count && element < elements; ++i, ++element) {
          const std::int64_t expected = local[static_cast<std::size_t>(element)];
          ASSERT_EQ(place.local < 0 ? -1 : place.local + i, expected) << seed << ", element " << element;
          if (expected < 0) continue;
          ++found;
          outside += element < index.first() || element >= index.last();
          outside += part.begin + expected < within.first || part.begin + expected >= within.first + within.count;
        }
      }
      EXPECT_EQ(found, index.elements()) << seed;
      EXPECT_EQ(outside, 0) << seed;
    }
  }
}

// 2^40 elements on 64 ranks: nothing may be counted one by one.
TEST(TilingTest, TheSizeOfTheTensorCostsNothing) {
  const std::int64_t rows = std::int64_t{1} << 20, columns = rows;
  std::vector<Block> blocks;
  for (int x = 0; x < 4; ++x) {
    for (int y = 0; y < 4; ++y) blocks.push_back({columns, {{x * rows / 4, rows / 4}}, {{y * columns / 4, columns / 4}}});
  }
  std::vector<BlockPart> parts;
  for (const Block& block : blocks) {
    for (int z = 0; z < 4; ++z)
      parts.push_back({&block, (block.elements() / 4 + 1) * z, std::min(block.elements(), (block.elements() / 4 + 1) * (z + 1))});
  }
  EXPECT_TRUE(CheckTiling(rows * columns, parts).ok());
  --parts.back().end;
  EXPECT_EQ(CheckTiling(rows * columns, parts).message(), StrCat("elements ", rows * columns - 1, " to ", rows * columns, " are missing"));
}

}  // namespace
}  // namespace lycia
