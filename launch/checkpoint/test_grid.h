// Made-up tensors cut over made-up grids in all the ways in which grids cut: padded parts, parts of several ranges of columns (queries,
// keys, values), and a block that all parts of a row share.
#ifndef LYCIA_LAUNCH_CHECKPOINT_TEST_GRID_H_
#define LYCIA_LAUNCH_CHECKPOINT_TEST_GRID_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launch/checkpoint/piece.h"
#include "launch/checkpoint/test_ranks.h"

namespace lycia {

// rows × columns blocks of every tensor, each cut flat over `owners` ranks. Rank (r, c, o) is r columns owners + c owners + o.
struct TestGrid {
  int rows = 1, columns = 1, owners = 1;
  std::uint64_t seed = 0;  // of how each tensor is cut

  int ranks() const { return rows * columns * owners; }
  std::string ToString() const;
};
TestGrid RandomTestGrid(std::uint64_t seed, int largest);

// What one rank owns; data is not set. Together the ranks own every element once.
std::vector<Piece> PiecesOfRank(const std::vector<TestTensor>& tensors, const TestGrid& grid, int rank);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_TEST_GRID_H_
