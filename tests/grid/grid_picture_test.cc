// Who owns what: every element of every operand once, parts of one size, and what the documentation shows is what the code does.
#include <algorithm>
#include <fstream>
#include <sstream>

#include "gtest/gtest.h"
#include "tests/grid/picture_for_test.h"

namespace lycia {
namespace {

TEST(GridPicture, EveryElementHasOneOwnerAndEveryRankAnEqualShare) {
  const std::vector<OwnershipPanel> panels = WorkedExample().Panels();
  ASSERT_EQ(panels.size(), 8u);
  for (const OwnershipPanel& panel : panels) {
    for (int rank = 0; rank < 8; ++rank) EXPECT_EQ(std::ranges::count(panel.owner, rank) * 8, panel.rows * panel.columns) << panel.title;
  }
}

// Rank 5 is x = 0, y = 1, z = 1: the numbers of the worked example.
TEST(GridPicture, TheWorkedExampleIsTrue) {
  const std::vector<OwnershipPanel> panels = WorkedExample().Panels();
  const auto owner = [&](std::size_t panel, std::int64_t row, std::int64_t column) {
    return panels[panel].owner[static_cast<std::size_t>(row * panels[panel].columns + column)];
  };
  const auto needed = [&](std::size_t panel) { return std::ranges::count(panels[panel].needed, 1); };
  EXPECT_EQ(owner(0, 6, 0), 5);  // X: tokens 6, 7, features 0 to 3
  EXPECT_EQ(owner(0, 4, 0), 4);  // what it gathers along y comes from rank 4
  EXPECT_EQ(owner(0, 6, 4), 7);
  EXPECT_EQ(needed(0), 4 * 4);
  EXPECT_EQ(needed(1), 4 * 12);  // W: features 0 to 3, q, k and v of heads 2 and 3
  EXPECT_EQ(owner(1, 2, 4), 5);  // the second half of the block's rows; z = 0 has the first
  EXPECT_EQ(owner(1, 0, 4), 1);
  EXPECT_EQ(owner(2, 4, 4), 5);  // Y: head 2 of the sequences of z = 1
  EXPECT_EQ(owner(6, 4, 8), 5);  // hidden: tokens 4, 5 of x = 0, units 8 to 15 of y = 1
  EXPECT_EQ(owner(6, 6, 8), 7);
}

TEST(GridPicture, TheDocumentedPictureIsNotStale) {
  std::ifstream file("docs/tensor_grid.svg");
  std::stringstream content;
  content << file.rdbuf();
  EXPECT_EQ(content.str(), WorkedExampleSvg()) << "run: bazel run //tests/grid:draw_grid > docs/tensor_grid.svg";
}

}  // namespace
}  // namespace lycia
