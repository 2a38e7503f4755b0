// Logical bytes that one rank of a tensor grid moves for one transformer block and one micro-batch, exactly (docs/plan_grid.md).
//
// One rule covers every matrix product Y[m, n] = X[m, k] W[k, n] with axis roles rows R, contraction K, output N: X, W and Y are each cut
// P ways, X is gathered along N, W along R, Y reduce-scattered along K. A gather or reduce-scatter among q ranks moves (q - 1) shards, so
//   forward bytes = e (m k (q_N - 1) + k n (q_R - 1) + m n (q_K - 1)) / P,
// and backward the same where gathered X and W were kept. Over the four products of a block that is
//   e (4 m h (y - 1) + c m h (x - 1) + c h^2 (z - 1)) / P,   c = a + 1 + (g + 1) f / h,   a = width of QKV / h,   g = 2 if gated else 1.
// Shards of matrices that do not cut evenly count as the largest one.
#ifndef LYCIA_PARALLEL_PLAN_GRID_BYTES_H_
#define LYCIA_PARALLEL_PLAN_GRID_BYTES_H_

#include <array>
#include <cstdint>

#include "parallel/plan/grid_shape.h"

namespace lycia::plan {

// What backward does about matrices that forward gathered.
struct GatherPolicy {
  bool cache_x = true;          // gathered X is kept; false: gathered again for the weight gradient
  bool cache_w = true;          // gathered W is kept; false: gathered again for the input gradient
  bool split_backward = false;  // input and weight gradient are separate instructions: dY is gathered once for each
};

// A linear layer of a block and the roles of the axes in it.
struct BlockLinear {
  const char* name;
  std::int64_t k, n;  // of the product; n of all ranks together, so key/value heads that several ranks compute count for each
  Axis rows, contraction, output;
  // Columns of W cut along N, and those that all of N hold: key/value heads where there are fewer than (y, x), cut flat over (z, y).
  std::int64_t own_columns, shared_columns = 0;
};
// QKV, projection and the two of the feed-forward layer, padded for the grid.
std::array<BlockLinear, 4> BlockLinears(const Transformer& model, const GridShape& grid);

// What travels along each axis: bytes and collective calls.
struct AxisTraffic {
  std::int64_t x = 0, y = 0, z = 0;
  std::int64_t calls_x = 0, calls_y = 0, calls_z = 0;

  std::int64_t total() const { return x + y + z; }
  std::int64_t bytes(Axis axis) const { return axis == Axis::kX ? x : axis == Axis::kY ? y : z; }
  std::int64_t calls(Axis axis) const { return axis == Axis::kX ? calls_x : axis == Axis::kY ? calls_y : calls_z; }
  AxisTraffic& operator+=(const AxisTraffic& other);
  bool operator==(const AxisTraffic&) const = default;
};

struct BlockTraffic {
  AxisTraffic activations_forward, activations_backward;  // X, Y and their gradients
  // W and dW. A group (z, y) counts what comes from the same z along y and the rest along z.
  AxisTraffic weights_forward, weights_backward;
  AxisTraffic norm_forward, norm_backward;  // statistics of the two norms, f32, along x
  // Forward and backward of the matrices, which is what grids are compared by; norms are not in it.
  AxisTraffic matrices() const;
  AxisTraffic norms() const;
};

struct GridProblem {
  Transformer model;
  MicroBatch batch;
  std::int64_t element_bytes = 2;  // e
  GatherPolicy gather = {};
};

// For sizes that Refusals names the figures are rounded up: what the grid would move, were they close multiples.
BlockTraffic BlockBytes(const GridProblem& problem, const GridShape& grid);

// Once per step: biases and norm vectors gathered for the working copy, or (the same again) their gradients reduce-scattered. f32.
std::int64_t VectorBytes(const GridProblem& problem, const GridShape& grid);

// Forward and backward of the ends of the model, one micro-batch.
AxisTraffic EmbeddingBytes(const GridProblem& problem, const GridShape& grid);
AxisTraffic HeadBytes(const GridProblem& problem, const GridShape& grid);
// Vocabulary-parallel cross entropy: all-reduces of maximum, sum and target over y and of the loss over (z, x), f32. Where the parts of an
// all-reduce differ by an element, the mean over ranks, rounded up.
std::int64_t CrossEntropyBytes(const GridProblem& problem, const GridShape& grid);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_GRID_BYTES_H_
