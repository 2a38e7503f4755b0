#include "parallel/plan/grid_bytes.h"

namespace lycia::plan {
namespace {

constexpr std::int64_t kStatisticBytes = 4;  // norm statistics, vectors and losses travel in f32

std::int64_t CeilDivide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// One gather or reduce-scatter along `axis` of a matrix cut P ways: (q - 1) shards, and no call where q = 1.
AxisTraffic Move(const GridProblem& problem, const GridShape& grid, std::int64_t elements, Axis axis) {
  const int q = grid.size(axis);
  const std::int64_t bytes = problem.element_bytes * (q - 1) * CeilDivide(elements, grid.ranks());
  const std::int64_t calls = q > 1 ? 1 : 0;
  switch (axis) {
    case Axis::kX:
      return {.x = bytes, .calls_x = calls};
    case Axis::kY:
      return {.y = bytes, .calls_y = calls};
    default:
      return {.z = bytes, .calls_z = calls};
  }
}

// Gather W, or reduce-scatter dW.
AxisTraffic MoveWeight(const GridProblem& problem, const GridShape& grid, const BlockLinear& linear) {
  AxisTraffic moved = Move(problem, grid, linear.k * linear.own_columns, linear.rows);
  if (linear.shared_columns == 0) return moved;
  const std::int64_t shard = problem.element_bytes * CeilDivide(linear.k * linear.shared_columns, grid.ranks());
  moved.y += shard * (grid.y - 1);
  moved.z += shard * (grid.z - 1) * grid.y;
  moved.calls_y += grid.z * grid.y > 1 ? 1 : 0;
  return moved;
}

// Norms: sum and sum of squares (layer norm: mean and centred squares; RMS norm: squares alone) of this rank's tokens, gathered along x.
AxisTraffic NormPass(const GridProblem& problem, const GridShape& grid) {
  constexpr int kNorms = 2;
  const std::int64_t statistics = problem.model.bias ? 2 : 1;
  const std::int64_t tokens = CeilDivide(problem.batch.tokens, std::int64_t{grid.z} * grid.y);
  if (grid.x == 1) return {};
  return {.x = kNorms * statistics * kStatisticBytes * tokens * (grid.x - 1), .calls_x = kNorms};
}

}  // namespace

std::array<BlockLinear, 4> BlockLinears(const Transformer& model, const GridShape& grid) {
  const Transformer held = Padded(model, grid);
  const std::int64_t h = model.hidden, f = held.ffn, fc1 = model.gated ? 2 * f : f, size = model.head_size();
  const std::int64_t qkv = (model.heads + 2 * held.kv_heads) * size;
  const bool shared = held.kv_heads != model.kv_heads;
  return {{{.name = "qkv",
            .k = h,
            .n = qkv,
            .rows = Axis::kZ,
            .contraction = Axis::kX,
            .output = Axis::kY,
            .own_columns = shared ? h : qkv,
            .shared_columns = shared ? 2 * model.kv_heads * size : 0},
           {"proj", h, h, Axis::kZ, Axis::kY, Axis::kX, h},
           {"fc1", h, fc1, Axis::kZ, Axis::kX, Axis::kY, fc1},
           {"fc2", f, h, Axis::kZ, Axis::kY, Axis::kX, h}}};
}

AxisTraffic& AxisTraffic::operator+=(const AxisTraffic& other) {
  x += other.x, y += other.y, z += other.z;
  calls_x += other.calls_x, calls_y += other.calls_y, calls_z += other.calls_z;
  return *this;
}

AxisTraffic BlockTraffic::matrices() const {
  AxisTraffic sum = activations_forward;
  for (const AxisTraffic& part : {activations_backward, weights_forward, weights_backward}) sum += part;
  return sum;
}

AxisTraffic BlockTraffic::norms() const {
  AxisTraffic sum = norm_forward;
  sum += norm_backward;
  return sum;
}

BlockTraffic BlockBytes(const GridProblem& problem, const GridShape& grid) {
  const std::int64_t m = problem.batch.tokens;
  BlockTraffic traffic;
  for (const BlockLinear& linear : BlockLinears(problem.model, grid)) {
    const AxisTraffic x = Move(problem, grid, m * linear.k, linear.output);       // gather X, reduce-scatter dX
    const AxisTraffic w = MoveWeight(problem, grid, linear);                      // gather W, reduce-scatter dW
    const AxisTraffic y = Move(problem, grid, m * linear.n, linear.contraction);  // reduce-scatter Y, gather dY
    (traffic.activations_forward += x) += y;
    (traffic.activations_backward += x) += y;
    traffic.weights_forward += w;
    traffic.weights_backward += w;
    if (!problem.gather.cache_x) traffic.activations_backward += x;
    if (!problem.gather.cache_w) traffic.weights_backward += w;
    if (problem.gather.split_backward) traffic.activations_backward += y;
  }
  traffic.norm_forward = traffic.norm_backward = NormPass(problem, grid);
  return traffic;
}

std::int64_t VectorBytes(const GridProblem& problem, const GridShape& grid) {
  const std::array<BlockLinear, 4> linears = BlockLinears(problem.model, grid);
  const std::int64_t h = problem.model.hidden, x = grid.x, y = grid.y, z = grid.z;
  const auto gathered = [&](std::int64_t elements, std::int64_t q) {
    return kStatisticBytes * (q - 1) * CeilDivide(elements, grid.ranks());
  };
  // A vector is cut over the axes that split its columns, and flat over the others, along which it is gathered.
  if (!problem.model.bias) return gathered(2 * h, z * y);  // the two RMS norms' scales
  return gathered(linears[0].own_columns, z) + gathered(linears[0].shared_columns, x * y * z) + gathered(linears[2].n, z * x) +
         gathered(6 * h, z * y);
}

AxisTraffic EmbeddingBytes(const GridProblem& problem, const GridShape& grid) {
  const Transformer model = Padded(problem.model, grid);
  AxisTraffic sum;
  for (int pass = 0; pass < 2; ++pass) {
    sum += Move(problem, grid, model.vocab * model.hidden, Axis::kZ);
    sum += Move(problem, grid, problem.batch.tokens * model.hidden, Axis::kY);
  }
  return sum;
}

AxisTraffic HeadBytes(const GridProblem& problem, const GridShape& grid) {
  const Transformer model = Padded(problem.model, grid);
  const GatherPolicy& gather = problem.gather;
  const AxisTraffic w = Move(problem, grid, model.vocab * model.hidden, Axis::kZ);
  const AxisTraffic x = Move(problem, grid, problem.batch.tokens * model.hidden, Axis::kY);
  const AxisTraffic y = Move(problem, grid, problem.batch.tokens * model.vocab, Axis::kX);
  AxisTraffic sum;
  for (const AxisTraffic& forward : {x, w, y}) sum += forward;
  (sum += x) += y;
  // A tied head adds its gradient to the embedding's before the one reduce-scatter, which EmbeddingBytes counts.
  if (!model.tied) sum += w;
  if (!gather.cache_x) sum += x;
  if (!gather.cache_w) sum += w;
  if (gather.split_backward) sum += y;
  return sum;
}

std::int64_t CrossEntropyBytes(const GridProblem& problem, const GridShape& grid) {
  constexpr int kReductions = 3;  // maximum, sum of exponentials, target
  const auto all_reduce = [](std::int64_t elements, std::int64_t q) { return CeilDivide(2 * kStatisticBytes * elements * (q - 1), q); };
  const std::int64_t zx = std::int64_t{grid.z} * grid.x;
  return kReductions * all_reduce(CeilDivide(problem.batch.tokens, zx), grid.y) + all_reduce(1, zx);
}

}  // namespace lycia::plan
