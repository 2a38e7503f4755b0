// The byte formulas against counting: who owns which element and who multiplies which, written down from the layouts of a transformer block
// without a formula. An element that a rank multiplies but does not own is received once; an element that a rank owns receives one partial
// sum from every other rank that multiplied towards it. Each message goes along one axis, or the layouts are wrong.
#include <functional>
#include <map>

#include "gtest/gtest.h"
#include "parallel/plan/grid_bytes.h"

namespace lycia::plan {
namespace {

struct Place {
  std::int64_t x, y, z;
  bool operator==(const Place&) const = default;
};

std::int64_t Block(std::int64_t index, std::int64_t size, std::int64_t parts) { return index / (size / parts); }

// A matrix as the ranks see it: its owner of each element, and whether a rank's product takes (or gives) it.
struct Spread {
  std::int64_t rows, columns;
  std::function<Place(std::int64_t row, std::int64_t column)> owner;
  std::function<bool(const Place& rank, std::int64_t row, std::int64_t column)> multiplies;
};

// Bytes that `rank` receives along each axis: to gather what it multiplies, or the partial sums of what it owns.
AxisTraffic Count(const Spread& matrix, const std::vector<Place>& ranks, const Place& rank, bool gather, std::int64_t element_bytes) {
  AxisTraffic received;
  const auto receive = [&](const Place& from) {
    const int along = (from.x != rank.x) + (from.y != rank.y) + (from.z != rank.z);
    ASSERT_EQ(along, 1) << "a message along more than one axis";
    (from.x != rank.x ? received.x : from.y != rank.y ? received.y : received.z) += element_bytes;
  };
  for (std::int64_t row = 0; row < matrix.rows; ++row) {
    for (std::int64_t column = 0; column < matrix.columns; ++column) {
      const Place owner = matrix.owner(row, column);
      if (gather && owner != rank && matrix.multiplies(rank, row, column)) receive(owner);
      if (gather || owner != rank) continue;
      for (const Place& other : ranks) {
        if (other != rank && matrix.multiplies(other, row, column)) receive(other);
      }
    }
  }
  return received;
}

// The layouts of a block on grid (x, y, z) with m tokens, by the axes that cut rows and columns from the outside in.
class Layouts {
 public:
  Layouts(const GridShape& grid, std::int64_t tokens) : x_(grid.x), y_(grid.y), z_(grid.z), m_(tokens) {}

  // Tokens by (z, y), features by x.
  std::function<Place(std::int64_t, std::int64_t)> Residual(std::int64_t width) const {
    return [=, this](std::int64_t t, std::int64_t c) {
      const std::int64_t z = Block(t, m_, z_), inside = t % (m_ / z_);
      return Place{Block(c, width, x_), Block(inside, m_ / z_, y_), z};
    };
  }
  // Whole sequences by z, heads by (y, x).
  std::function<Place(std::int64_t, std::int64_t)> Heads(std::int64_t width) const {
    return [=, this](std::int64_t t, std::int64_t c) {
      return Place{Block(c % (width / y_), width / y_, x_), Block(c, width, y_), Block(t, m_, z_)};
    };
  }
  // Tokens by (z, x), columns by y.
  std::function<Place(std::int64_t, std::int64_t)> Inner(std::int64_t width) const {
    return [=, this](std::int64_t t, std::int64_t c) {
      const std::int64_t inside = t % (m_ / z_);
      return Place{Block(inside, m_ / z_, x_), Block(c, width, y_), Block(t, m_, z_)};
    };
  }

 private:
  std::int64_t x_, y_, z_, m_;
};

struct Case {
  GridShape grid;
  Transformer model;
  MicroBatch batch;
};

std::vector<Place> RanksOf(const GridShape& grid) {
  std::vector<Place> ranks;
  for (std::int64_t x = 0; x < grid.x; ++x) {
    for (std::int64_t y = 0; y < grid.y; ++y) {
      for (std::int64_t z = 0; z < grid.z; ++z) ranks.push_back({x, y, z});
    }
  }
  return ranks;
}

// One product: into_x says whether its input's columns are cut by x (QKV, FC1) or by y (projection, FC2).
struct Product {
  std::int64_t k, n;
  bool into_x;
  std::function<Place(std::int64_t, std::int64_t)> in, out;
};

void ExpectCounted(const Case& test) {
  const GridShape& grid = test.grid;
  const std::int64_t m = test.batch.tokens, h = test.model.hidden, e = 2;
  // Held sizes by hand: ffn rounded up to y, a key/value head for each (y, x) at least.
  std::int64_t f = test.model.ffn, kv = test.model.kv_heads;
  while (f % grid.y != 0) ++f;
  while (kv < test.model.heads && kv < grid.x * grid.y) ++kv;
  const std::int64_t qkv = (test.model.heads + 2 * kv) * (h / test.model.heads), fc1 = test.model.gated ? 2 * f : f;
  const Layouts layouts(grid, m);
  const Product products[] = {{h, qkv, true, layouts.Residual(h), layouts.Heads(qkv)},
                              {h, h, false, layouts.Heads(h), layouts.Residual(h)},
                              {h, fc1, true, layouts.Residual(h), layouts.Inner(fc1)},
                              {f, h, false, layouts.Inner(f), layouts.Residual(h)}};
  const std::vector<Place> ranks = RanksOf(grid);
  GridProblem problem = {.model = test.model, .batch = test.batch, .element_bytes = e};
  const BlockTraffic formula = BlockBytes(problem, grid);
  for (const Place& rank : ranks) {
    AxisTraffic activations_forward, activations_backward, weights_forward, weights_backward;
    for (const Product& product : products) {
      const std::int64_t k_cuts = product.into_x ? grid.x : grid.y, n_cuts = product.into_x ? grid.y : grid.x;
      const auto k_of = [&](const Place& p) { return product.into_x ? p.x : p.y; };
      const auto n_of = [&](const Place& p) { return product.into_x ? p.y : p.x; };
      const auto in_rows = [&](const Place& p, std::int64_t t) { return Block(t, m, grid.z) == p.z; };
      const auto in_k = [&](const Place& p, std::int64_t i) { return Block(i, product.k, k_cuts) == k_of(p); };
      const auto in_n = [&](const Place& p, std::int64_t j) { return Block(j, product.n, n_cuts) == n_of(p); };
      const Spread x = {m, product.k, product.in,
                        [&](const Place& p, std::int64_t t, std::int64_t i) { return in_rows(p, t) && in_k(p, i); }};
      // Fewer key/value heads than (y, x): every y holds all of their columns, cut flat over (z, y) of one x.
      const std::int64_t own = test.model.kv_heads < kv && product.n == qkv ? h : product.n;
      const std::int64_t shared = own == product.n ? 0 : 2 * test.model.kv_heads * (h / test.model.heads);
      const std::int64_t shared_block = h / grid.x * shared;
      AxisTraffic shared_received;
      for (std::int64_t element = 0; element < shared_block; ++element) {
        const std::int64_t position = Block(element, shared_block, grid.z * grid.y);  // in the order of ranks (z, y)
        const bool same_z = position / grid.y == rank.z, same_y = position % grid.y == rank.y;
        if (!same_z) shared_received.z += e;
        if (same_z && !same_y) shared_received.y += e;
      }
      const Spread w = {product.k, own,
                        [&](std::int64_t i, std::int64_t j) {  // flat along z inside the block of (k, n)
                          const std::int64_t wide = own / n_cuts, high = product.k / k_cuts;
                          const std::int64_t flat = (i % high) * wide + j % wide;
                          const std::int64_t ki = Block(i, product.k, k_cuts), nj = Block(j, own, n_cuts);
                          return Place{product.into_x ? ki : nj, product.into_x ? nj : ki, Block(flat, high * wide, grid.z)};
                        },
                        [&](const Place& p, std::int64_t i, std::int64_t j) { return in_k(p, i) && Block(j, own, n_cuts) == n_of(p); }};
      const Spread y = {m, product.n, product.out,
                        [&](const Place& p, std::int64_t t, std::int64_t j) { return in_rows(p, t) && in_n(p, j); }};
      activations_forward += Count(x, ranks, rank, true, e);
      activations_forward += Count(y, ranks, rank, false, e);
      activations_backward += Count(y, ranks, rank, true, e);
      activations_backward += Count(x, ranks, rank, false, e);
      weights_forward += Count(w, ranks, rank, true, e);
      weights_backward += Count(w, ranks, rank, false, e);
      weights_forward += shared_received;
      weights_backward += shared_received;
    }
    SCOPED_TRACE(StrCat("grid ", grid.ToString(), " rank x", rank.x, " y", rank.y, " z", rank.z));
    for (const Axis axis : {Axis::kX, Axis::kY, Axis::kZ}) {
      EXPECT_EQ(activations_forward.bytes(axis), formula.activations_forward.bytes(axis)) << Name(axis);
      EXPECT_EQ(activations_backward.bytes(axis), formula.activations_backward.bytes(axis)) << Name(axis);
      EXPECT_EQ(weights_forward.bytes(axis), formula.weights_forward.bytes(axis)) << Name(axis);
      EXPECT_EQ(weights_backward.bytes(axis), formula.weights_backward.bytes(axis)) << Name(axis);
    }
    // Norms: both statistics of every token of which this rank has features, from every other rank that has some of its features.
    const auto residual = layouts.Residual(h);
    std::int64_t statistics = 0;
    for (std::int64_t t = 0; t < m; ++t) {
      const Place first = residual(t, 0);
      if (first.y != rank.y || first.z != rank.z) continue;
      for (const Place& other : ranks) statistics += other != rank && other.y == rank.y && other.z == rank.z ? 2 : 0;
    }
    EXPECT_EQ(formula.norm_forward.x, 2 * 4 * statistics);
  }
}

TEST(GridCount, EveryGridOfTheSimulation) {
  const Transformer gpt = {.hidden = 36, .ffn = 48, .heads = 18, .kv_heads = 18, .layers = 1, .vocab = 30, .context = 12};
  for (const GridShape& grid : {GridShape{1, 1, 1},
                                {2, 1, 1},
                                {1, 2, 1},
                                {1, 1, 2},
                                {2, 2, 1},
                                {2, 2, 2},
                                {3, 2, 1},
                                {1, 3, 2},
                                {2, 1, 3},
                                {1, 6, 1},
                                {6, 1, 1},
                                {1, 1, 6},
                                {3, 2, 2},
                                {2, 3, 2},
                                {3, 2, 3},
                                {2, 2, 3}}) {
    const Case test = {grid, gpt, {.tokens = 72, .sequences = 6}};
    if (test.grid == GridShape{2, 2, 1} || test.grid == GridShape{2, 2, 2} || test.grid == GridShape{2, 2, 3}) {
      Case even = test;  // 4 must divide the heads
      even.model.heads = even.model.kv_heads = 12;
      ASSERT_TRUE(Refusals(even.grid, even.model, even.batch).empty()) << grid.ToString();
      ExpectCounted(even);
      continue;
    }
    ASSERT_TRUE(Refusals(test.grid, test.model, test.batch).empty()) << grid.ToString();
    ExpectCounted(test);
  }
}

TEST(GridCount, GroupedQueriesGatedAndPadded) {
  // 12 query heads of 2 features, 4 groups: more heads than (y, x), as many, fewer; ffn 22 and 21 padded to a multiple of y.
  const Transformer grouped = {.hidden = 24, .ffn = 22, .heads = 12, .kv_heads = 4, .layers = 1, .vocab = 30, .context = 12, .gated = true};
  for (const GridShape& grid : {GridShape{1, 2, 2}, {2, 2, 1}, {3, 4, 1}, {2, 4, 1} /* refused: 12 heads */, {1, 4, 3}, {1, 12, 1}}) {
    if (grid == GridShape{2, 4, 1}) {
      EXPECT_FALSE(Refusals(grid, grouped, {.tokens = 24 * 6}).empty());
      continue;
    }
    ASSERT_TRUE(Refusals(grid, grouped, {.tokens = 24 * 6, .sequences = 6}).empty()) << grid.ToString();
    ExpectCounted({grid, grouped, {.tokens = 24 * 6, .sequences = 6}});
  }
  Transformer odd = grouped;
  odd.ffn = 21;
  odd.gated = false;
  ExpectCounted({{1, 2, 2}, odd, {.tokens = 24, .sequences = 2}});
  // One sequence: x and y split its tokens.
  ExpectCounted({{2, 3, 1}, odd, {.tokens = 12, .sequences = 1}});
}

}  // namespace
}  // namespace lycia::plan
