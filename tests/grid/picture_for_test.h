// The worked example of docs/tensor_grid.md: a block of hidden 8 on 2 x 2 x 2 ranks, with the brick of rank 5.
#ifndef LYCIA_TESTS_GRID_PICTURE_FOR_TEST_H_
#define LYCIA_TESTS_GRID_PICTURE_FOR_TEST_H_

#include <memory>
#include <string>
#include <vector>

#include "models/grid_picture.h"
#include "runtime/comm/transports.h"

namespace lycia {

struct WorkedExample {
  static constexpr int kFeatured = 5;
  std::unique_ptr<Communicator> world = OpenDryRunWorld(0, 8);
  Mesh mesh = Mesh::Create({.x = 2, .y = 2, .z = 2, .order = "data,context,expert,pipeline,z,x,y"}, 8).value();
  std::unique_ptr<Grid> grid = Grid::Create(*world, mesh).value();
  GridGptOptions options = {.model = {.layers = 1, .heads = 4, .hidden = 8, .context = 4, .vocab = 16, .ffn = 16},
                            .grid = grid.get(),
                            .samples = 2,
                            .sequence = 4};
  std::vector<OwnershipPanel> Panels() const { return OwnershipOfBlock(options, kFeatured).value(); }
};

inline std::string WorkedExampleSvg() {
  const WorkedExample example;
  return OwnershipSvg(example.Panels(), example.mesh, WorkedExample::kFeatured);
}

}  // namespace lycia

#endif  // LYCIA_TESTS_GRID_PICTURE_FOR_TEST_H_
