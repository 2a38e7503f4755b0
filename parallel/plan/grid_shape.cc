#include "parallel/plan/grid_shape.h"

#include <algorithm>
#include <numeric>

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

namespace {

// The nearest sizes below and above `value`, up to `most`, that `works` accepts: "20 or 32"; "": there are none.
template <typename Works>
std::string Nearest(std::int64_t value, std::int64_t most, const Works& works) {
  std::int64_t below = value - 1, above = value + 1;
  while (below > 0 && !works(below)) --below;
  while (above <= most && !works(above)) ++above;
  if (below > 0 && above <= most) return StrCat(below, " or ", above);
  return below > 0 ? StrCat(below) : above <= most ? StrCat(above) : "";
}

std::string Problem(std::string_view what, std::int64_t size, std::string_view factor, std::int64_t by) {
  return StrCat(what, "=", size, " is not a multiple of ", factor, "=", by, "; use ");
}

std::string HeadsProblem(const Transformer& model, std::int64_t xy) {
  const std::string heads =
      Nearest(model.heads, model.hidden, [&](std::int64_t size) { return size % xy == 0 && model.hidden % size == 0; });
  const std::string problem = Problem("heads", model.heads, "x*y", xy);
  if (!heads.empty()) return problem + heads;
  return StrCat(problem, xy, " heads and hidden=", NearestMultiples(model.hidden, xy));
}

}  // namespace

std::vector<std::string> Refusals(const GridShape& grid, const Transformer& model, const MicroBatch& batch) {
  std::vector<std::string> reasons;
  const std::int64_t x = grid.x, y = grid.y, z = grid.z;
  const std::int64_t sequences = std::max<std::int64_t>(1, batch.sequences), m = batch.tokens;
  if (batch.sequences % z != 0) {
    reasons.push_back(Problem("batch", batch.sequences, "z", z) + NearestMultiples(batch.sequences, z));
  } else {
    const std::string tokens = NearestMultiples(m, std::lcm(sequences, z * std::lcm(x, y)));
    if (m % z != 0) reasons.push_back(Problem("tokens", m, "z", z) + tokens);
    if (m % z == 0 && m / z % y != 0) reasons.push_back(Problem("tokens", m, "z*y", z * y) + tokens);
    if (m % z == 0 && m / z % x != 0) reasons.push_back(Problem("tokens", m, "z*x", z * x) + tokens);
  }
  // hidden is a multiple of heads, so x divides it where x*y divides the heads.
  if (model.heads % (x * y) != 0) reasons.push_back(HeadsProblem(model, x * y));
  const auto groups = [&](std::int64_t size) { return (size % (x * y) == 0 || x * y % size == 0) && model.heads % size == 0; };
  if (model.heads % (x * y) == 0 && !groups(model.kv_heads)) {
    reasons.push_back(StrCat("kv-heads=", model.kv_heads, " is neither a multiple nor a divisor of x*y=", x * y, "; use ",
                             Nearest(model.kv_heads, model.heads, groups)));
  }
  return reasons;
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
