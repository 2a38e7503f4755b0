// Tensor grids x * y * z of a number of ranks, and which of them fit a model.
#ifndef LYCIA_PARALLEL_PLAN_GRID_SHAPE_H_
#define LYCIA_PARALLEL_PLAN_GRID_SHAPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/mesh/mesh.h"
#include "parallel/plan/transformer.h"

namespace lycia::plan {

struct GridShape {
  int x = 1, y = 1, z = 1;

  int ranks() const { return x * y * z; }
  int size(Axis axis) const;  // of x, y or z
  bool operator==(const GridShape&) const = default;
  std::string ToString() const;  // "2,8,4"
};

// Every x * y * z = ranks, by x and then y.
std::vector<GridShape> Factorisations(int ranks);

// One micro-batch.
struct MicroBatch {
  std::int64_t tokens = 0;     // m
  std::int64_t sequences = 0;  // B; 0: not known, z is assumed to divide it
};

// Why the grid does not fit: GridRefusals (parallel/grid/sizes.h) of these sizes. Where the number of sequences is not known it is z, which
// must then divide the tokens.
std::vector<std::string> Refusals(const GridShape& grid, const Transformer& model, const MicroBatch& batch);

// Sizes as the grid holds them: ffn and vocab padded to multiples of y, key/value heads repeated until every (x, y) holds one.
Transformer Padded(const Transformer& model, const GridShape& grid);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_GRID_SHAPE_H_
