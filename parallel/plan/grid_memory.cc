#include "parallel/plan/grid_memory.h"

#include <algorithm>

namespace lycia::plan {
namespace {

constexpr std::int64_t kVectorBytes = 4;

std::int64_t CeilDivide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Parameters of `elements` in all, and what trains them.
void AddParameters(std::int64_t elements, std::int64_t element_bytes, const GridShape& grid, GridMemory& memory) {
  const std::int64_t shard = CeilDivide(elements, grid.ranks()), gradient_bytes = std::max<std::int64_t>(4, element_bytes);
  const std::int64_t copies = element_bytes < gradient_bytes ? 3 : 2;
  memory.parameters += shard * element_bytes;
  memory.gradients += shard * gradient_bytes;
  memory.optimizer += shard * gradient_bytes * copies;
}

// Elements of the gathered matrix that one rank multiplies: its brick of a [rows, columns] matrix cut along two axes.
std::int64_t Brick(std::int64_t rows, int by_rows, std::int64_t columns, int by_columns) {
  return CeilDivide(rows, by_rows) * CeilDivide(columns, by_columns);
}

// Elements of a product's weights that are gathered and whose gradients are scattered: cut flat along z, or where key/value heads are
// shared along (z, y).
std::int64_t Moving(const BlockLinear& linear, const GridShape& grid) {
  const int contraction = grid.size(linear.contraction), output = grid.size(linear.output);
  const std::int64_t own = grid.z > 1 ? Brick(linear.k, contraction, linear.own_columns, output) : 0;
  const std::int64_t shared = grid.z * grid.y > 1 ? Brick(linear.k, contraction, linear.shared_columns, 1) : 0;
  return own + shared;
}

// Of each product of a block, in order.
std::array<std::int64_t, 4> MovingOfBlock(const GridProblem& problem, const GridShape& grid) {
  const std::array<BlockLinear, 4> linears = BlockLinears(problem.model, grid);
  std::array<std::int64_t, 4> elements{};
  for (std::size_t i = 0; i < elements.size(); ++i) elements[i] = Moving(linears[i], grid);
  return elements;
}

}  // namespace

std::int64_t GridMemory::total() const {
  return parameters + gradients + optimizer + activations + gathered_x + gathered_w + moving_w + partial_x + partial_y + vectors -
         counted_twice;
}

GridMemory BlockMemory(const GridProblem& problem, const GridShape& grid) {
  const Transformer model = Padded(problem.model, grid);
  const std::array<BlockLinear, 4> linears = BlockLinears(problem.model, grid);
  const std::int64_t m = problem.batch.tokens, h = model.hidden, e = problem.element_bytes;
  const GatherPolicy& gather = problem.gather;
  GridMemory memory;
  std::int64_t all_x = 0, all_w = 0, ungathered_w = 0, largest_x = 0, largest_y = 0, own_x = 0;
  for (const BlockLinear& linear : linears) {
    AddParameters(linear.k * (linear.own_columns + linear.shared_columns), e, grid, memory);
    const int rows = grid.size(linear.rows), contraction = grid.size(linear.contraction), output = grid.size(linear.output);
    const std::int64_t x = Brick(m, rows, linear.k, contraction);
    const std::int64_t own_w = Brick(linear.k, contraction, linear.own_columns, output);
    const std::int64_t shared_w = Brick(linear.k, contraction, linear.shared_columns, 1), w = own_w + shared_w;
    all_x += x, all_w += w;
    if (grid.z == 1) ungathered_w += own_w + (grid.y == 1 ? shared_w : 0);
    own_x += CeilDivide(m * linear.k, grid.ranks());
    if (output > 1) largest_x = std::max(largest_x, x);
    if (contraction > 1) largest_y = std::max(largest_y, Brick(m, rows, linear.n, output));
  }
  memory.gathered_x = e * (gather.cache_x ? all_x : largest_x);
  memory.gathered_w = e * (gather.cache_w ? all_w : 0);
  // Neighbours among the products whose weights move at all: with z = 1 only shared key/value heads', of one block and the next.
  std::int64_t first = 0, before = 0;
  for (const std::int64_t moving : MovingOfBlock(problem, grid)) {
    if (moving == 0) continue;
    if (first == 0) first = moving;
    memory.moving_w = std::max(memory.moving_w, e * (before + moving));
    before = moving;
  }
  if (model.layers > 1) memory.moving_w = std::max(memory.moving_w, e * (before + first));
  memory.partial_x = e * largest_x;
  memory.partial_y = e * largest_y;
  memory.counted_twice = e * ((gather.cache_x ? own_x : 0) + (gather.cache_w ? ungathered_w : 0));

  // Each vector's columns on this rank: QKV over (y, x), shared key/value heads whole, the first feed-forward bias over y, others over x.
  const std::int64_t q = linears[0].own_columns, shared = linears[0].shared_columns, fc1 = linears[2].n,
                     over_x = model.bias ? 6 * h : 2 * h;
  AddParameters(over_x + (model.bias ? q + shared + fc1 : 0), kVectorBytes, grid, memory);
  memory.vectors = CeilDivide(over_x, grid.x);
  if (model.bias) memory.vectors += CeilDivide(q, std::int64_t{grid.x} * grid.y) + shared + CeilDivide(fc1, grid.y);
  memory.vectors *= kVectorBytes;

  // Inputs and outputs of the norms 4h, QKV, mixed heads h, both sides of the activation function.
  const std::int64_t kept = 4 * h + linears[0].n + h + fc1 + model.ffn;
  memory.activations = e * CeilDivide(m * kept, grid.ranks());
  return memory;
}

GridMemory ModelMemory(const GridProblem& problem, const GridShape& grid) {
  const Transformer model = Padded(problem.model, grid);
  const std::int64_t m = problem.batch.tokens, h = model.hidden, v = model.vocab, e = problem.element_bytes;
  GridMemory memory = BlockMemory(problem, grid);
  const std::int64_t layers = model.layers;
  memory.parameters *= layers, memory.gradients *= layers, memory.optimizer *= layers;
  memory.activations *= layers, memory.vectors *= layers;
  memory.counted_twice *= layers;
  if (problem.gather.cache_x) memory.gathered_x *= layers;
  if (problem.gather.cache_w) memory.gathered_w *= layers;
  // Embedding and head are [V over y, h over x]; the head's input and norm are kept, the logits are its output.
  AddParameters((model.tied ? 1 : 2) * v * h, e, grid, memory);
  memory.activations += e * CeilDivide(m * (2 * h + v), grid.ranks());
  const std::int64_t x = e * Brick(m, grid.z, h, grid.x), w = e * Brick(v, grid.y, h, grid.x);
  if (problem.gather.cache_x) memory.counted_twice += e * CeilDivide(m * h, grid.ranks());
  if (problem.gather.cache_w && grid.z == 1) memory.counted_twice += w;
  memory.gathered_x = problem.gather.cache_x ? memory.gathered_x + x : std::max(memory.gathered_x, x);
  if (problem.gather.cache_w) memory.gathered_w += w;  // the head's; the embedding has no use for its own in the backward
  // The embedding's table is next to the first block's QKV, the head's to the last block's second feed-forward product. Kept weights have
  // only their gradients there, and a tied head hands its own over.
  const std::array<std::int64_t, 4> moving = MovingOfBlock(problem, grid);
  const bool alone = problem.gather.cache_w && model.tied;
  const std::int64_t table = grid.z > 1 ? w : 0;
  memory.moving_w = std::max(memory.moving_w, table + (alone || table == 0 ? 0 : e * std::max(moving.front(), moving.back())));
  memory.partial_x = std::max(memory.partial_x, grid.y > 1 ? x : 0);
  memory.partial_y = std::max(memory.partial_y, e * Brick(m, grid.z, v, grid.y));
  return memory;
}

}  // namespace lycia::plan
