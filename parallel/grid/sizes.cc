#include "parallel/grid/sizes.h"

#include <algorithm>
#include <utility>

namespace lycia {
namespace {

// "use 8 or 12": the multiples of `unit` around `size`.
std::string NearestMultiples(std::int64_t size, std::int64_t unit) {
  const std::int64_t below = size / unit * unit;
  return below > 0 ? StrCat("use ", below, " or ", below + unit) : StrCat("use ", below + unit);
}

// The largest divisor of `size` not above `limit`.
std::int64_t DivisorUpTo(std::int64_t size, std::int64_t limit) {
  while (size % limit != 0) --limit;
  return limit;
}

}  // namespace

StatusOr<GridSizes> FitToGrid(const GridProblem& p, int x, int y, int z) {
  const std::string grid = StrCat("grid ", x, " x ", y, " x ", z);
  const std::int64_t parts = std::int64_t{x} * y;
  if (p.samples % z != 0) {
    return InvalidArgument(grid, ": z = ", z, " does not divide the ", p.samples, " samples of a micro-batch; ",
                           NearestMultiples(p.samples, z), " samples, or z = ", DivisorUpTo(p.samples, z));
  }
  const std::int64_t rows = p.samples / z * p.sequence;
  for (const auto& [name, size] : {std::pair("y", y), std::pair("x", x)}) {
    if (rows % size == 0) continue;
    return InvalidArgument(grid, ": ", name, " = ", size, " does not divide the ", rows, " tokens (", p.samples / z, " samples of ",
                           p.sequence, ") that one z holds; ", NearestMultiples(p.sequence, size), " tokens a sample, or ", name, " = ",
                           DivisorUpTo(rows, size));
  }
  if (p.hidden % x != 0) {
    return InvalidArgument(grid, ": x = ", x, " does not divide hidden ", p.hidden, "; ", NearestMultiples(p.hidden, x),
                           ", or x = ", DivisorUpTo(p.hidden, x));
  }
  if (p.heads % parts != 0) {
    return InvalidArgument(grid, ": x y = ", parts, " does not divide the ", p.heads, " heads, which are split by (y, x); ",
                           NearestMultiples(p.heads, parts), " heads, or x y = ", DivisorUpTo(p.heads, parts));
  }
  if (p.kv_heads < 1 || p.heads % p.kv_heads != 0) {
    return InvalidArgument(p.kv_heads, " key/value heads do not divide ", p.heads, " heads; use ",
                           DivisorUpTo(p.heads, std::max<std::int64_t>(1, std::min(p.kv_heads, p.heads))));
  }
  if (p.kv_heads % parts != 0 && parts % p.kv_heads != 0) {
    return InvalidArgument(grid, ": ", p.kv_heads, " key/value heads neither divide into x y = ", parts, " parts nor ", parts,
                           " parts into them; use ", DivisorUpTo(parts, std::min(p.kv_heads, parts)), " or ", parts,
                           " key/value heads, or x y = ", DivisorUpTo(p.kv_heads, std::min(p.kv_heads, parts)));
  }
  GridSizes sizes{.samples = p.samples / z,
                  .rows_z = rows,
                  .rows_zy = rows / y,
                  .rows_zx = rows / x,
                  .features = p.hidden / x,
                  .heads = p.heads / parts,
                  .kv_heads = std::max<std::int64_t>(1, p.kv_heads / parts),
                  .kv_shared = p.kv_heads < parts,
                  .ffn = (p.ffn + y - 1) / y,
                  .vocabulary = (p.vocabulary + y - 1) / y};
  return sizes;
}

}  // namespace lycia
