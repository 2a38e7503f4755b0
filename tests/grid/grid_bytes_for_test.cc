#include "tests/grid/grid_bytes_for_test.h"

namespace lycia {

std::map<std::string, Counter> Traffic(const Grid& grid) {
  std::map<std::string, Counter> traffic;
  for (int g = 0; g < kNumGridGroups; ++g) {
    const GridGroup group = static_cast<GridGroup>(g);
    if (grid.along(group) == nullptr) continue;
    const Counters& counters = grid.along(group)->counters();
    for (std::size_t o = 0; o < counters.of.size(); ++o) {
      for (std::size_t t = 0; t < counters.of[o].size(); ++t) {
        const Counter& counter = counters.of[o][t];
        if (counter.calls == 0) continue;
        traffic[StrCat(Name(group), " ", Name(static_cast<Tag>(t)), " ", Name(static_cast<Operation>(o)))] = counter;
      }
    }
  }
  return traffic;
}

std::map<std::string, Counter> ExpectedTraffic(const Grid& grid, const GridCase& c, std::int64_t e, int steps) {
  const GptConfig& model = c.options.model;
  const GridPolicy& policy = c.options.policy;
  const std::int64_t qx = c.x, qy = c.y, qz = c.z, P = qx * qy * qz, L = model.layers, h = model.hidden;
  const std::int64_t f = (model.ffn + qy - 1) / qy * qy, V = (model.vocab + qy - 1) / qy * qy;
  const std::int64_t m = c.options.samples * c.options.sequence, M = std::int64_t{c.micro_batches} * steps;
  std::map<std::string, Counter> traffic;
  // `times` calls a micro-batch of size * (q - 1) / P elements together.
  const auto add = [&](const std::string& what, std::int64_t q, std::int64_t calls, std::int64_t size, std::int64_t repeats) {
    if (q == 1 || calls == 0) return;
    traffic[what].calls += calls * repeats;
    traffic[what].bytes += e * size * (q - 1) / P * repeats;
  };
  // Activations of a block: along y X of QKV and FC1 and the outputs of the projections, each [m, h]; along x the outputs of QKV [m, 3h]
  // and FC1 [m, f] and the inputs of the projections [m, h], [m, f]; their gradients once more. The head: X and dX, logits and their
  // gradient.
  const std::string gather = " activation all-gather", scatter = " activation reduce-scatter";
  const bool x_again = !policy.cache_inputs, dy_again = !policy.cache_output_gradients;
  add("y" + gather, qy, L * (4 + 2 * x_again + 2 * dy_again) + 2 + x_again, m * h * (L * (4 + 2 * x_again + 2 * dy_again) + 2 + x_again),
      M);
  add("y" + scatter, qy, L * 4 + 2, m * h * (L * 4 + 2), M);
  add("x" + gather, qx, L * (4 + 2 * x_again + 2 * dy_again) + 1 + dy_again,
      L * (m * (h + f) * (1 + x_again) + m * (3 * h + f) * (1 + dy_again)) + m * V * (1 + dy_again), M);
  add("x" + scatter, qx, L * 4 + 1, L * (m * (3 * h + f) + m * (h + f)) + m * V, M);
  // Weights: 4 h^2 + 2 f h a block; the table for embedding and head, its gradient once where it is tied on this rank.
  const std::int64_t block = 4 * h * h + 2 * f * h, again = policy.cache_weights ? 1 : 2;
  add("z weight all-gather", qz, 4 * L * again + 1 + again, L * block * again + V * h * (1 + again), M);
  add("z gradient reduce-scatter", qz, 4 * L + (model.tied ? 1 : 2), L * block + V * h * (model.tied ? 1 : 2), M);
  // Two numbers a row for each of 2 L + 1 norms, forward and backward: (m / (qz qy)) (qx - 1) * 2 = 2 m qx (qx - 1) / P.
  add("x norm all-gather", qx, 2 * (2 * L + 1), 2 * (2 * L + 1) * 2 * m * qx, M);
  // Vectors once a step: biases of QKV, of FC1; of the projections with the norms; positions.
  for (const char* operation : {" vector all-gather", " vector reduce-scatter"}) {
    add("z" + std::string(operation), qz, 1, 3 * h * L, steps);
    add("zx" + std::string(operation), qz * qx, 1, f * L, steps);
    add("zy" + std::string(operation), qz * qy, 1, 6 * h * L + 2 * h + model.context * h, steps);
  }
  // Cross entropy: the largest; sum of exponentials and label's logit in one. 2 (qy - 1) / qy elements for each.
  add("y loss all-reduce", qy, 2, 3 * 2 * m, M);
  // The loss itself, one element over (z, x) once a step: 2 (q - 1) / q on average, of which the first rank folds.
  if (qz * qx > 1) traffic["zx loss all-reduce"] = {steps, e * steps * (grid.position(GridGroup::kZX) == 0 ? qz * qx - 1 : 1)};
  return traffic;
}

Status CompareBytes(const Grid& grid, const GridCase& c, std::int64_t element, int steps) {
  const std::map<std::string, Counter> expected = ExpectedTraffic(grid, c, element, steps), actual = Traffic(grid);
  std::map<std::string, Counter> all = expected;
  all.insert(actual.begin(), actual.end());
  for (const auto& [what, unused] : all) {
    const Counter want = expected.contains(what) ? expected.at(what) : Counter{}, got = actual.contains(what) ? actual.at(what) : Counter{};
    if (want == got) continue;
    return absl::InternalError(StrCat("rank ", grid.rank(), " of ", c.ToString(), ": ", what, " has ", got.calls, " calls with ", got.bytes,
                                      " bytes, not ", want.calls, " with ", want.bytes));
  }
  return OkStatus();
}

}  // namespace lycia
