#include "parallel/mesh/mesh.h"

#include <gtest/gtest.h>

namespace lycia {
namespace {

TEST(Mesh, RanksAndCoordinatesAreInverse) {
  const Mesh mesh = *Mesh::Create({.pipeline = 4, .data = 3, .x = 2, .y = 5, .z = 1, .order = "pipeline,context,data,expert,x,z,y"}, 120);
  for (int rank = 0; rank < 120; ++rank) {
    // The order string, read as digits of a mixed-radix number.
    const int expected =
        ((mesh.coordinate(rank, Axis::kPipeline) * 3 + mesh.coordinate(rank, Axis::kData)) * 2 + mesh.coordinate(rank, Axis::kX)) * 5 +
        mesh.coordinate(rank, Axis::kY);
    EXPECT_EQ(rank, expected);
    EXPECT_EQ(mesh.Neighbour(rank, Axis::kData, mesh.coordinate(rank, Axis::kData)), rank);
  }
}

TEST(Mesh, DefaultOrderPutsTheDearestAxesTogether) {
  const Mesh mesh = *Mesh::Create({.pipeline = 4, .data = 2}, 8);
  EXPECT_EQ(mesh.coordinate(5, Axis::kPipeline), 1);
  EXPECT_EQ(mesh.coordinate(5, Axis::kData), 1);
  EXPECT_EQ(mesh.ToString(), "data 2 x pipeline 4 = 8 ranks");
  // rank = y + |y| (x + |x| (z + |z| (pipeline + ...))).
  const Mesh grid = *Mesh::Create({.pipeline = 2, .data = 1, .x = 2, .y = 3, .z = 2}, 24);
  EXPECT_EQ(grid.ToString(), "data 1 x pipeline 2 x grid 2,3,2 = 24 ranks");
  EXPECT_EQ(grid.Neighbour(0, Axis::kY, 2), 2);
  EXPECT_EQ(grid.Neighbour(0, Axis::kX, 1), 3);
  EXPECT_EQ(grid.Neighbour(0, Axis::kZ, 1), 6);
  EXPECT_EQ(grid.Neighbour(0, Axis::kPipeline, 1), 12);
}

TEST(Mesh, ColorsGroupWhatDiffersOnlyAlongTheAxes) {
  const Mesh mesh = *Mesh::Create({.pipeline = 4, .data = 2}, 8);
  EXPECT_EQ(mesh.ColorsAlong({Axis::kPipeline}), (std::vector<int>{0, 0, 0, 0, 4, 4, 4, 4}));
  EXPECT_EQ(mesh.ColorsAlong({Axis::kData}), (std::vector<int>{0, 1, 2, 3, 0, 1, 2, 3}));
  EXPECT_EQ(mesh.ColorsOfHolders({0, 3}), (std::vector<int>{0, -1, -1, 0, 0, -1, -1, 0}));
}

TEST(Mesh, HoldersOnAGridStayApart) {
  const Mesh mesh = *Mesh::Create({.pipeline = 2, .data = 1, .x = 2}, 4);
  EXPECT_EQ(mesh.ColorsOfHolders({0, 1}), (std::vector<int>{0, 1, 0, 1}));
}

TEST(Mesh, BadInputNamesTheNumbers) {
  EXPECT_EQ(Mesh::Create({.pipeline = 4, .data = 2}, 6).status().message(),
            "the mesh pipeline 4 x data 2 x grid 1 x 1 x 1 needs 8 ranks, but 6 are running; start 8 ranks or change the sizes");
  EXPECT_FALSE(Mesh::Create({.pipeline = 0}, 1).ok());
  EXPECT_FALSE(Mesh::Create({.order = "data,pipeline"}, 1).ok());
  EXPECT_FALSE(Mesh::Create({.order = "data,data,expert,pipeline,z,y,x"}, 1).ok());
  EXPECT_FALSE(Mesh::Create({.order = "data,context,expert,stage,z,y,x"}, 1).ok());
}

}  // namespace
}  // namespace lycia
