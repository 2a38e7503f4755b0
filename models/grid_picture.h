// A picture of who owns what: every operand of a transformer block on a grid, element by element.
#ifndef LYCIA_MODELS_GRID_PICTURE_H_
#define LYCIA_MODELS_GRID_PICTURE_H_

#include <string>
#include <vector>

#include "models/grid_gpt.h"

namespace lycia {

// One matrix: the rank that holds each element, and the brick that one rank multiplies with.
struct OwnershipPanel {
  std::string title;  // "X, input of QKV"
  std::int64_t rows = 0, columns = 0;
  std::vector<int> owner;            // [rows, columns]; -1: nobody
  std::vector<std::uint8_t> needed;  // [rows, columns]: the featured rank uses it once all is gathered, or makes a summand of it
};

// Of the first block, in the order of the computation. The sizes are options'; the grid gives the sizes of the axes.
StatusOr<std::vector<OwnershipPanel>> OwnershipOfBlock(const GridGptOptions& options, int featured_rank);
// Colors and numbers are ranks; what the featured rank needs is framed.
std::string OwnershipSvg(const std::vector<OwnershipPanel>& panels, const Mesh& mesh, int featured_rank);

}  // namespace lycia

#endif  // LYCIA_MODELS_GRID_PICTURE_H_
