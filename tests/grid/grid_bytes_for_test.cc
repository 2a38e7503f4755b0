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

namespace {

// One rank's counters, put together from operands by the number of elements that all ranks of a group hold of them.
class Forms {
 public:
  Forms(const Grid& grid, std::int64_t element_bytes) : grid_(grid), e_(element_bytes) {}

  // `calls` collectives, each of an operand that is cut into nearly equal parts. Rank p owns o = n / q elements, the first n mod q ranks
  // one more: others' elements, n - o, come to it; or q - 1 summands of its own o.
  void Gather(GridGroup group, Tag tag, std::int64_t n, std::int64_t calls) { Add(group, tag, "all-gather", calls, n - Owned(group, n)); }
  void Reduce(GridGroup group, Tag tag, std::int64_t n, std::int64_t calls) {
    Add(group, tag, "reduce-scatter", calls, (grid_.size(group) - 1) * Owned(group, n));
  }
  void AllReduce(GridGroup group, Tag tag, std::int64_t n, std::int64_t calls) {
    Add(group, tag, "all-reduce", calls, (grid_.size(group) - 2) * Owned(group, n) + n);
  }
  // The vectors of a group in one message, each cut on its own, gathered once a step and their gradients reduced once.
  void Vectors(GridGroup group, const std::vector<std::int64_t>& sizes, std::int64_t steps) {
    std::int64_t all = 0, owned = 0;
    for (const std::int64_t n : sizes) all += n, owned += Owned(group, n);
    Add(group, Tag::kVector, "all-gather", steps, all - owned);
    Add(group, Tag::kVector, "reduce-scatter", steps, (grid_.size(group) - 1) * owned);
  }
  std::map<std::string, Counter> Take() { return std::move(traffic_); }

 private:
  std::int64_t Owned(GridGroup group, std::int64_t n) const {
    const std::int64_t q = grid_.size(group);
    return n / q + (grid_.position(group) < n % q ? 1 : 0);
  }
  void Add(GridGroup group, Tag tag, const char* operation, std::int64_t calls, std::int64_t elements) {
    if (grid_.size(group) == 1 || calls == 0) return;
    Counter& counter = traffic_[StrCat(Name(group), " ", Name(tag), " ", operation)];
    counter.calls += calls;
    counter.bytes += e_ * calls * elements;
  }

  const Grid& grid_;
  std::int64_t e_;
  std::map<std::string, Counter> traffic_;
};

}  // namespace

std::map<std::string, Counter> ExpectedTraffic(const Grid& grid, const GridCase& c, std::int64_t e, int steps) {
  constexpr GridGroup kX = GridGroup::kX, kY = GridGroup::kY, kZ = GridGroup::kZ, kZY = GridGroup::kZY, kZX = GridGroup::kZX;
  const GptConfig& model = c.options.model;
  const GridPolicy& policy = c.options.policy;
  const std::int64_t x = c.x, y = c.y, z = c.z, L = model.layers, D = model.hidden / model.heads;
  const std::int64_t G = model.kv_heads == 0 ? model.heads : model.kv_heads;
  const std::int64_t M = std::int64_t{c.micro_batches} * steps, rows = c.options.samples * c.options.sequence / z;  // of one z
  // Of one x, of one y; FFN and vocabulary padded. Each of the x y parts has heads of its own; of fewer key/value heads one each.
  const bool shared = G < x * y;
  const std::int64_t h = model.hidden / x, f = (model.ffn + y - 1) / y, V = (model.vocab + y - 1) / y, heads = model.hidden / y;
  const std::int64_t kv = 2 * (shared ? x * y : G) * D / y;
  const std::int64_t x_times = 1 + !policy.cache_inputs, dy_times = 1 + (c.split && !policy.cache_output_gradients),
                     w = policy.cache_weights ? 1 : 2;
  Forms traffic(grid, e);

  // A product gathers X and reduces Y forward; backward it gathers dY and reduces dX; without caches the weight gradient gathers again.
  const auto product = [&](GridGroup in, std::int64_t in_width, GridGroup out, std::int64_t out_width, std::int64_t times) {
    traffic.Gather(in, Tag::kActivation, rows * in_width, times * x_times);
    traffic.Reduce(in, Tag::kActivation, rows * in_width, times);
    traffic.Reduce(out, Tag::kActivation, rows * out_width, times);
    traffic.Gather(out, Tag::kActivation, rows * out_width, times * dy_times);
  };
  product(kY, h, kX, heads + kv, L * M);              // QKV
  product(kX, heads, kY, h, L * M);                   // projection
  product(kY, h, kX, f, L * M);                       // FC1
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
  weight(kZ, h * f, L * M * w, L * M);
  weight(kZ, f * h, L * M * w, L * M);
  weight(kZ, V * h, M * (1 + w), M * (model.tied ? 1 : 2));  // the table for embedding and head; the gradient is summed where it is tied

  // Two numbers a row for each of 2 L + 1 norms, forward and backward.
  traffic.Gather(kX, Tag::kNorm, 2 * rows / y * x, 2 * (2 * L + 1) * M);

  const auto each_layer = [&](std::initializer_list<std::int64_t> sizes, std::initializer_list<std::int64_t> ends = {}) {
    std::vector<std::int64_t> all;
    for (std::int64_t l = 0; l < L; ++l) all.insert(all.end(), sizes);
    all.insert(all.end(), ends);
    return all;
  };
  traffic.Vectors(kZ, each_layer({(shared ? heads : heads + kv) / x}), steps);  // QKV's bias
  if (shared) traffic.Vectors(GridGroup::kXYZ, each_layer({2 * G * D}), steps);
  traffic.Vectors(kZX, each_layer({f}), steps);                                            // FC1's bias
  traffic.Vectors(kZY, each_layer({h, h, h, h, h, h}, {h, h, model.context * h}), steps);  // norms, the projections' biases; positions

  // Cross entropy: the largest; sum of exponentials and label's logit in one. The loss itself once a step.
  traffic.AllReduce(kY, Tag::kLoss, rows / x, M);
  traffic.AllReduce(kY, Tag::kLoss, 2 * rows / x, M);
  traffic.AllReduce(kZX, Tag::kLoss, 1, steps);
  return traffic.Take();
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
