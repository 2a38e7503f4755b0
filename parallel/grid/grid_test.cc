// The parts of the grid that need no data: which sizes fit, which elements a rank owns, which types combine.
#include "parallel/grid/grid.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/grid/sizes.h"
#include "parallel/mesh/sharding.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

constexpr GridProblem kProblem{.samples = 6, .sequence = 10, .hidden = 48, .heads = 12, .kv_heads = 4, .ffn = 100, .vocabulary = 91};

TEST(GridSizes, OneRankOfTwoByThreeByTwo) {
  const StatusOr<GridSizes> sizes = FitToGrid(kProblem, 2, 3, 2);
  EXPECT_FALSE(sizes.ok());  // 4 key/value heads on 6 parts
  GridProblem problem = kProblem;
  problem.kv_heads = 3;
  const GridSizes fit = FitToGrid(problem, 2, 3, 2).value();
  EXPECT_EQ(fit.samples, 3);
  EXPECT_EQ(fit.rows_z, 30);
  EXPECT_EQ(fit.rows_zy, 10);
  EXPECT_EQ(fit.rows_zx, 15);
  EXPECT_EQ(fit.features, 24);
  EXPECT_EQ(fit.heads, 2);
  EXPECT_EQ(fit.kv_heads, 1);
  EXPECT_TRUE(fit.kv_shared);
  EXPECT_EQ(fit.ffn, 34);         // 100 padded to 102
  EXPECT_EQ(fit.vocabulary, 31);  // 91 padded to 93
}

// Every refusal says the numbers and sizes that work; those sizes do work.
TEST(GridSizes, RefusalsNameTheNearestSizesThatWork) {
  const auto refusal = [](const GridProblem& problem, int x, int y, int z) {
    return std::string(FitToGrid(problem, x, y, z).status().message());
  };
  EXPECT_THAT(refusal(kProblem, 1, 1, 4), HasSubstr("z = 4 does not divide the 6 samples of a micro-batch; use 4 or 8 samples, or z = 3"));
  EXPECT_THAT(refusal(kProblem, 1, 4, 6), HasSubstr("y = 4 does not divide the 10 tokens (1 samples of 10) that one z holds; use 8 or 12"));
  EXPECT_THAT(refusal(kProblem, 4, 1, 6), HasSubstr("x = 4 does not divide the 10 tokens"));
  EXPECT_THAT(refusal(kProblem, 5, 1, 1), HasSubstr("x = 5 does not divide hidden 48; use 45 or 50, or x = 4"));
  EXPECT_THAT(
      refusal(kProblem, 1, 10, 1),
      HasSubstr("x y = 10 does not divide the 12 heads, which are split by (y, x); use 40 or 50 for hidden and 10 heads, or x y = 6"));
  // Of the numbers of heads that divide hidden 48: 8, 16, 24, 48.
  EXPECT_THAT(refusal(kProblem, 1, 8, 1), HasSubstr("y = 8 does not divide the 60 tokens (6 samples of 10)"));
  EXPECT_THAT(GridRefusals(kProblem, 1, 8, 1).back(), HasSubstr("use 8 or 16 heads, or x y = 6"));
  EXPECT_THAT(GridRefusals(kProblem, 4, 6, 1).back(), HasSubstr("use 24 heads, or x y = 12"));
  EXPECT_THAT(
      refusal(kProblem, 2, 3, 1),
      HasSubstr("4 key/value heads neither divide into x y = 6 parts nor 6 parts into them; use 3 or 6 key/value heads, or x y = 4"));
  GridProblem five = kProblem;
  five.kv_heads = 5;
  EXPECT_THAT(refusal(five, 1, 1, 1), HasSubstr("5 key/value heads do not divide 12 heads; use 4"));
  GridProblem six = kProblem;
  six.kv_heads = 6;
  EXPECT_THAT(refusal(six, 1, 4, 1), HasSubstr("use 4 or 12 key/value heads, or x y = 3"));
  for (const int x : {1, 2, 4}) EXPECT_TRUE(FitToGrid(kProblem, x, 1, 1).ok());
  EXPECT_TRUE(FitToGrid(kProblem, 1, 1, 3).ok());
}

// Every grid of up to 12 ranks is refused exactly where a rule of docs/tensor_grid.md is broken.
TEST(GridSizes, RefusedAreTheGridsThatBreakARule) {
  int fitting = 0, refused = 0;
  for (int x = 1; x <= 12; ++x) {
    for (int y = 1; x * y <= 12; ++y) {
      for (int z = 1; x * y * z <= 12; ++z) {
        for (const std::int64_t kv_heads : {1, 2, 3, 4, 6, 12}) {
          GridProblem p = kProblem;
          p.kv_heads = kv_heads;
          const bool tokens = p.samples % z == 0 && p.samples / z * p.sequence % y == 0 && p.samples / z * p.sequence % x == 0;
          const bool groups = kv_heads % (x * y) == 0 || x * y % kv_heads == 0;
          const bool fits = tokens && p.hidden % x == 0 && p.heads % (x * y) == 0 && groups;
          ASSERT_EQ(GridRefusals(p, x, y, z).empty(), fits) << x << " x " << y << " x " << z << ", " << kv_heads;
          ASSERT_EQ(FitToGrid(p, x, y, z).ok(), fits);
          ++(fits ? fitting : refused);
        }
      }
    }
  }
  EXPECT_GT(fitting, 50);
  EXPECT_GT(refused, 50);
}

// Groups along x, y, z and their products, as another rank sees them; positions count in rank order whatever the order of axes.
TEST(Grid, GroupsAndPositions) {
  for (const char* order : {"data,context,expert,pipeline,z,x,y", "data,context,expert,pipeline,x,y,z"}) {
    const Mesh mesh = Mesh::Create({.x = 2, .y = 3, .z = 4, .order = order}, 24).value();
    for (int rank = 0; rank < 24; ++rank) {
      const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, 24);
      const std::unique_ptr<Grid> grid = Grid::Create(*world, mesh).value();
      for (int g = 0; g < kNumGridGroups; ++g) {
        const GridGroup group = static_cast<GridGroup>(g);
        ASSERT_EQ(grid->along(group)->size(), grid->size(group));
        ASSERT_EQ(grid->along(group)->rank(), grid->position(group));
        ASSERT_EQ(grid->SeenFrom(23 - rank).position(group), grid->position(group, 23 - rank));
      }
      EXPECT_EQ(grid->position(GridGroup::kX), grid->coordinate(Axis::kX));
      EXPECT_EQ(grid->size(GridGroup::kZY), 12);
      EXPECT_EQ(grid->size(GridGroup::kZX), 8);
      EXPECT_EQ(grid->size(GridGroup::kXYZ), 24);
    }
  }
}

constexpr Spread kCopy = Spread::kReplicate, kRows = Spread::kRows, kColumns = Spread::kColumns, kPartial = Spread::kPartial;

// All 25 pairs of one axis; what is not in the table is refused.
TEST(Sharding, ProductsByAxis) {
  const auto product = [](Spread left, Spread right) -> std::string {
    const StatusOr<Sharding> result = Product({.y = left}, {.y = right});
    if (!result.ok()) return "";
    EXPECT_EQ(result->x, kCopy);
    return std::string(Name(result->y));
  };
  constexpr Spread kAll[] = {kCopy, kRows, kColumns, Spread::kFlat, kPartial};
  for (const Spread left : kAll) {
    for (const Spread right : kAll) {
      std::string expected;
      if (left == kColumns && right == kRows) expected = "partial";
      if (left == kRows && right == kCopy) expected = "rows";
      if (left == kCopy && right == kColumns) expected = "columns";
      if (left == kCopy && right == kCopy) expected = "copy";
      EXPECT_EQ(product(left, right), expected) << Name(left) << " times " << Name(right);
    }
  }
}

TEST(Sharding, CollectivesChangeOneAxis) {
  const Sharding residual{.x = kColumns, .y = kRows, .z = kRows};
  EXPECT_EQ(Gathered(residual, Axis::kY).value(), (Sharding{.x = kColumns, .z = kRows}));
  EXPECT_FALSE(Gathered({.x = kPartial}, Axis::kX).ok());
  EXPECT_FALSE(Gathered({}, Axis::kX).ok());
  EXPECT_EQ(Reduced({.z = kPartial}, Axis::kZ, kRows).value(), Sharding{.z = kRows});
  EXPECT_FALSE(Reduced(residual, Axis::kX, kRows).ok());
  EXPECT_EQ(residual.Transposed(), (Sharding{.x = kRows, .y = kColumns, .z = kColumns}));
  EXPECT_TRUE(MayUpdate(residual, "w").ok());
  EXPECT_THAT(std::string(MayUpdate({.y = kRows, .z = kPartial}, "w").message()),
              HasSubstr("gradient of w is (x copy, y rows, z partial): its summands along z"));
}

}  // namespace
}  // namespace lycia
