#include "tests/grid/grid_bytes_for_test.h"

namespace lycia {

std::map<std::string, Counter> ExpectedTraffic(const Grid& grid, const GridCase& c, std::int64_t e, int steps) {
  constexpr GridGroup kX = GridGroup::kX, kY = GridGroup::kY, kZ = GridGroup::kZ, kZY = GridGroup::kZY, kZX = GridGroup::kZX;
  const GptConfig& model = c.options.model;
  const GridPolicy& policy = c.options.policy;
  const std::int64_t x = c.x, y = c.y, z = c.z, L = model.layers, D = model.hidden / model.heads;
  const std::int64_t G = model.kv_heads == 0 ? model.heads : model.kv_heads;
  const std::int64_t M = std::int64_t{c.micro_batches} * steps, rows = c.options.samples * c.options.sequence / z;  // of one z
  // Of one x, of one y; FFN and vocabulary padded. Each of the x y parts has heads of its own; of fewer key/value heads one each.
  const bool shared = G < x * y;
  const std::int64_t gates = model.gated() ? 2 : 1;  // products with the hidden units of FC1
  const std::int64_t h = model.hidden / x, f = (model.ffn + y - 1) / y, V = (model.vocab + y - 1) / y, heads = model.hidden / y;
  const std::int64_t kv = 2 * (shared ? x * y : G) * D / y;
  const std::int64_t x_times = 1 + !policy.cache_inputs, dy_times = 1 + (c.split && !policy.cache_output_gradients),
                     w = policy.cache_weights ? 1 : 2;
  TrafficForms traffic(grid, e);

  // A product gathers X and reduces Y forward; backward it gathers dY and reduces dX; without caches the weight gradient gathers again.
  const auto product = [&](GridGroup in, std::int64_t in_width, GridGroup out, std::int64_t out_width, std::int64_t times) {
    traffic.Gather(in, Tag::kActivation, rows * in_width, times * x_times);
    traffic.Reduce(in, Tag::kActivation, rows * in_width, times);
    traffic.Reduce(out, Tag::kActivation, rows * out_width, times);
    traffic.Gather(out, Tag::kActivation, rows * out_width, times * dy_times);
  };
  product(kY, h, kX, heads + kv, L * M);              // QKV
  product(kX, heads, kY, h, L * M);                   // projection
  product(kY, h, kX, gates * f, L * M);               // FC1
  product(kX, f, kY, h, L * M);                       // FC2
  product(kY, h, kX, V, M);                           // head
  traffic.Reduce(kY, Tag::kActivation, rows * h, M);  // embedding
  traffic.Gather(kY, Tag::kActivation, rows * h, M);

  const auto weight = [&](GridGroup group, std::int64_t elements, std::int64_t gathers, std::int64_t reduces) {
    traffic.Gather(group, Tag::kWeight, elements, gathers);
    traffic.Reduce(group, Tag::kGradient, elements, reduces);
  };
  weight(kZ, h * (shared ? heads : heads + kv), L * M * w, L * M);
  if (shared) weight(kZY, h * 2 * G * D, L * M * w, L * M);
  weight(kZ, heads * h, L * M * w, L * M);
  weight(kZ, h * gates * f, L * M * w, L * M);
  weight(kZ, f * h, L * M * w, L * M);
  weight(kZ, V * h, M * (1 + w), M * (model.tied ? 1 : 2));  // the table for embedding and head; the gradient is summed where it is tied

  // Two numbers a row for each of 2 L + 1 norms, forward and backward; of RMS norms one.
  traffic.Gather(kX, Tag::kNorm, (model.rms_norm() ? 1 : 2) * rows / y * x, 2 * (2 * L + 1) * M);

  const auto each_layer = [&](std::initializer_list<std::int64_t> sizes, std::initializer_list<std::int64_t> ends = {}) {
    std::vector<std::int64_t> all;
    for (std::int64_t l = 0; l < L; ++l) all.insert(all.end(), sizes);
    all.insert(all.end(), ends);
    return all;
  };
  if (!model.biases()) {
    traffic.Vectors(kZY, each_layer({h, h}, {h}), steps);  // norms
  } else {
    traffic.Vectors(kZ, each_layer({(shared ? heads : heads + kv) / x}), steps);  // QKV's bias
    if (shared) traffic.Vectors(GridGroup::kXYZ, each_layer({2 * G * D}), steps);
    traffic.Vectors(kZX, each_layer({f}), steps);                                            // FC1's bias
    traffic.Vectors(kZY, each_layer({h, h, h, h, h, h}, {h, h, model.context * h}), steps);  // norms, the projections' biases; positions
  }

  // Cross entropy: the largest; sum of exponentials and label's logit in one. The loss itself once a step.
  traffic.AllReduce(kY, Tag::kLoss, rows / x, M);
  traffic.AllReduce(kY, Tag::kLoss, 2 * rows / x, M);
  traffic.AllReduce(kZX, Tag::kLoss, 1, steps);
  return traffic.Take();
}

Status CompareBytes(const Grid& grid, const GridCase& c, std::int64_t element, int steps) {
  return CompareTraffic(grid, ExpectedTraffic(grid, c, element, steps), c.ToString());
}

}  // namespace lycia
