#include "parallel/plan/grid_shape.h"

#include <algorithm>

#include "parallel/grid/sizes.h"
#include "runtime/core/check.h"

namespace lycia::plan {

int GridShape::size(Axis axis) const {
  LYCIA_CHECK(axis == Axis::kX || axis == Axis::kY || axis == Axis::kZ) << "axis " << Name(axis) << " is not of the grid ";
  return axis == Axis::kX ? x : axis == Axis::kY ? y : z;
}

std::string GridShape::ToString() const { return StrCat(x, ",", y, ",", z); }

std::vector<GridShape> Factorisations(int ranks) {
  std::vector<GridShape> grids;
  for (int x = 1; x <= ranks; ++x) {
    if (ranks % x != 0) continue;
    for (int y = 1; y <= ranks / x; ++y) {
      if (ranks / x % y == 0) grids.push_back({x, y, ranks / x / y});
    }
  }
  return grids;
}

std::vector<std::string> Refusals(const GridShape& grid, const Transformer& model, const MicroBatch& batch) {
  std::vector<std::string> refusals;
  lycia::GridProblem problem = {.samples = batch.sequences,
                                .hidden = model.hidden,
                                .heads = model.heads,
                                .kv_heads = model.kv_heads,
                                .ffn = model.ffn,
                                .vocabulary = model.vocab};
  if (batch.sequences != 0) {
    problem.sequence = batch.tokens / batch.sequences;
  } else {
    problem.samples = grid.z;
    problem.sequence = batch.tokens / grid.z;
    if (batch.tokens % grid.z != 0) {
      refusals.push_back(StrCat("z = ", grid.z, " does not divide the ", batch.tokens, " tokens of a micro-batch; use ",
                                NearestMultiples(batch.tokens, grid.z)));
      problem.sequence = std::int64_t{grid.x} * grid.y;  // what one z holds is not known
    }
  }
  const std::vector<std::string> others = GridRefusals(problem, grid.x, grid.y, grid.z);
  refusals.insert(refusals.end(), others.begin(), others.end());
  return refusals;
}

Transformer Padded(const Transformer& model, const GridShape& grid) {
  const auto padded = [&](std::int64_t size) { return (size + grid.y - 1) / grid.y * grid.y; };
  Transformer held = model;
  held.ffn = padded(model.ffn);
  held.vocab = padded(model.vocab);
  held.kv_heads = std::max<std::int64_t>(model.kv_heads, std::min<std::int64_t>(model.heads, grid.x * grid.y));
  return held;
}

}  // namespace lycia::plan
