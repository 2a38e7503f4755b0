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

// "use 20 or 32": the nearest sizes below and above `size`, up to `most`, that `works` accepts; "": there are none.
template <typename Works>
std::string Nearest(std::int64_t size, std::int64_t most, const Works& works) {
  std::int64_t below = size - 1, above = size + 1;
  while (below > 0 && !works(below)) --below;
  while (above <= most && !works(above)) ++above;
  if (below > 0 && above <= most) return StrCat("use ", below, " or ", above);
  return below > 0 ? StrCat("use ", below) : above <= most ? StrCat("use ", above) : "";
}

// Of the samples and tokens of a micro-batch.
void RefuseRows(const GridProblem& p, int x, int y, int z, std::vector<std::string>& refusals) {
  if (p.samples % z != 0) {
    refusals.push_back(StrCat("z = ", z, " does not divide the ", p.samples, " samples of a micro-batch; ", NearestMultiples(p.samples, z),
                              " samples, or z = ", DivisorUpTo(p.samples, z)));
    return;
  }
  const std::int64_t rows = p.samples / z * p.sequence;
  for (const auto& [name, size] : {std::pair("y", y), std::pair("x", x)}) {
    if (rows % size == 0) continue;
    refusals.push_back(StrCat(name, " = ", size, " does not divide the ", rows, " tokens (", p.samples / z, " samples of ", p.sequence,
                              ") that one z holds; ", NearestMultiples(p.sequence, size), " tokens a sample, or ", name, " = ",
                              DivisorUpTo(rows, size)));
  }
}

}  // namespace

std::vector<std::string> GridRefusals(const GridProblem& p, int x, int y, int z) {
  std::vector<std::string> refusals;
  RefuseRows(p, x, y, z, refusals);
  const std::int64_t parts = std::int64_t{x} * y;
  if (p.hidden % x != 0) {
    refusals.push_back(StrCat("x = ", x, " does not divide hidden ", p.hidden, "; ", NearestMultiples(p.hidden, x),
                              ", or x = ", DivisorUpTo(p.hidden, x)));
  }
  if (p.heads % parts != 0) {
    std::string use = Nearest(p.heads, p.hidden, [&](std::int64_t heads) { return heads % parts == 0 && p.hidden % heads == 0; });
    use = use.empty() ? StrCat(NearestMultiples(p.hidden, parts), " for hidden and ", parts, " heads") : use + " heads";
    refusals.push_back(StrCat("x y = ", parts, " does not divide the ", p.heads, " heads, which are split by (y, x); ", use,
                              ", or x y = ", DivisorUpTo(p.heads, parts)));
  }
  if (p.kv_heads < 1 || p.heads % p.kv_heads != 0) {
    refusals.push_back(StrCat(p.kv_heads, " key/value heads do not divide ", p.heads, " heads; use ",
                              DivisorUpTo(p.heads, std::max<std::int64_t>(1, std::min(p.kv_heads, p.heads)))));
  } else if (p.heads % parts == 0 && p.kv_heads % parts != 0 && parts % p.kv_heads != 0) {
    const auto fits = [&](std::int64_t kv_heads) { return p.heads % kv_heads == 0 && (kv_heads % parts == 0 || parts % kv_heads == 0); };
    refusals.push_back(StrCat(p.kv_heads, " key/value heads neither divide into x y = ", parts, " parts nor ", parts, " parts into them; ",
                              Nearest(p.kv_heads, p.heads, fits),
                              " key/value heads, or x y = ", DivisorUpTo(p.kv_heads, std::min(p.kv_heads, parts))));
  }
  return refusals;
}

StatusOr<GridSizes> FitToGrid(const GridProblem& p, int x, int y, int z) {
  const std::vector<std::string> refusals = GridRefusals(p, x, y, z);
  if (!refusals.empty()) return InvalidArgument("grid ", x, " x ", y, " x ", z, ": ", refusals[0]);
  const std::int64_t rows = p.samples / z * p.sequence, parts = std::int64_t{x} * y;
  return GridSizes{.samples = p.samples / z,
                   .rows_z = rows,
                   .rows_zy = rows / y,
                   .rows_zx = rows / x,
                   .features = p.hidden / x,
                   .heads = p.heads / parts,
                   .kv_heads = std::max<std::int64_t>(1, p.kv_heads / parts),
                   .kv_shared = p.kv_heads < parts,
                   .ffn = (p.ffn + y - 1) / y,
                   .vocabulary = (p.vocabulary + y - 1) / y};
}

std::vector<std::string> GridConvRefusals(const GridConvProblem& p, const GridConvAxes& axes) {
  std::vector<std::string> refusals;
  if (p.groups != 1 && (axes.contraction > 1 || axes.columns > 1)) {
    refusals.push_back(StrCat("a convolution of ", p.groups,
                              " groups is not cut by channels, since its filters see those of their group alone; ",
                              "use groups = 1, or K = N = 1"));
  }
  if (p.samples % axes.rows != 0) {
    refusals.push_back(StrCat("R = ", axes.rows, " does not divide the ", p.samples, " samples of a micro-batch; ",
                              NearestMultiples(p.samples, axes.rows), " samples, or R = ", DivisorUpTo(p.samples, axes.rows)));
    return refusals;
  }
  const std::int64_t samples = p.samples / axes.rows;
  for (const auto& [name, size] : {std::pair("N", axes.columns), std::pair("K", axes.contraction)}) {
    if (samples % size == 0) continue;
    refusals.push_back(StrCat(name, " = ", size, " does not divide the ", samples, " samples that one R holds; ",
                              NearestMultiples(samples, size), " of them, or ", name, " = ", DivisorUpTo(samples, size)));
  }
  const std::int64_t out_samples = samples / axes.contraction;
  if (samples % axes.contraction == 0 && out_samples % p.norm_samples != 0) {
    refusals.push_back(StrCat("a batch norm over ", p.norm_samples, " samples does not divide the ", out_samples,
                              " samples that one (R, K) holds; ", NearestMultiples(out_samples, p.norm_samples),
                              " of them, or a norm over ", DivisorUpTo(out_samples, std::min(p.norm_samples, out_samples))));
  }
  return refusals;
}

StatusOr<GridConvSizes> FitConvToGrid(const GridConvProblem& p, const GridConvAxes& axes) {
  const std::vector<std::string> refusals = GridConvRefusals(p, axes);
  if (!refusals.empty()) {
    return InvalidArgument("grid with R, K, N = ", axes.rows, ", ", axes.contraction, ", ", axes.columns, ": ", refusals[0]);
  }
  const std::int64_t samples = p.samples / axes.rows;
  return GridConvSizes{.samples = samples,
                       .in_samples = samples / axes.columns,
                       .out_samples = samples / axes.contraction,
                       .channels = (p.channels + axes.contraction - 1) / axes.contraction,
                       .filters = (p.filters + axes.columns - 1) / axes.columns};
}

}  // namespace lycia
