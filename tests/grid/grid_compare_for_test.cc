// What a grid computed against the serial truth.
#include <algorithm>
#include <cmath>

#include "tests/grid/grid_rank_for_test.h"

namespace lycia {
namespace {

Status CompareTensor(const std::string& name, const std::vector<double>& actual, const std::vector<double>& expected, double tolerance) {
  if (actual.size() != expected.size())
    return absl::InternalError(StrCat(name, " has ", actual.size(), " elements, not ", expected.size()));
  double largest = 0, worst = -1;
  std::size_t index = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(actual[i] - expected[i]);
    if (error > worst || std::isnan(error)) worst = error, index = i;
    if (std::isnan(error)) break;
  }
  if (worst <= tolerance * largest) return OkStatus();
  return absl::InternalError(
      StrCat(name, "[", index, "] is ", actual[index], ", not ", expected[index], "; largest ", largest, ", tolerance ", tolerance));
}

// What the serial model makes of a case, computed once for all grids.
struct Truth {
  std::map<std::string, std::vector<double>> weights, gradients;
  std::vector<double> logits;
  double loss = 0;
};

const Truth& TruthOf(const GridCase& c) {
  static std::map<std::vector<std::int64_t>, Truth>* known = new std::map<std::vector<std::int64_t>, Truth>();
  const GptConfig& m = c.options.model;
  const auto [at, is_new] = known->try_emplace({m.layers, m.heads, m.kv_heads, m.hidden, m.context, m.vocab, m.ffn, m.tied, m.rotary(),
                                                m.gated(), std::llround(m.dropout * 1e9), std::llround(m.init_std * 1e9), c.options.samples,
                                                c.options.sequence, c.micro_batches});
  Truth& truth = at->second;
  if (!is_new) return truth;
  const truth::TokenBatch batch = RandomBatch(c);
  truth::SerialGpt<double> serial(TruthSizes(m), {.seed = kGridSeed, .std = m.init_std, .dropout = m.dropout});
  truth.weights = serial.weights();
  truth.logits = serial.Logits(batch, true);
  truth.loss = serial.Step(batch).loss;
  truth.gradients = serial.gradients();
  return truth;
}

}  // namespace

Status CompareWithTruth(const GridCase& c, const GridResult& result, double tolerance) {
  const truth::TokenBatch batch = RandomBatch(c);
  const Truth& truth = TruthOf(c);
  for (const auto& [name, weight] : truth.weights) {
    const auto found = result.weights.find(name);
    if (found == result.weights.end()) return absl::InternalError("nobody owns " + name);
    if (std::ranges::any_of(result.owners.at(name), [](int owners) { return owners != 1; }))
      return absl::InternalError("an element of " + name + " is not owned once");
    if (found->second != weight) return absl::InternalError("initial weights of " + name + " differ");
  }
  if (result.weights.size() != truth.weights.size()) return absl::InternalError("there are parameters that the model has not");
  LYCIA_RETURN_IF_ERROR(CompareTensor("logits", result.logits, truth.logits, tolerance));
  const double loss_tokens = static_cast<double>(std::ranges::count_if(batch.labels, [](int label) { return label >= 0; }));
  LYCIA_RETURN_IF_ERROR(CompareTensor("loss", {result.loss / loss_tokens}, {truth.loss}, tolerance));
  for (const auto& [name, gradient] : truth.gradients) {
    LYCIA_RETURN_IF_ERROR(CompareTensor("gradient of " + name, result.gradients.at(name), gradient, tolerance));
  }
  return OkStatus();
}

namespace {

double SquaredDistance(const auto& a, const auto& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return sum;
}

// "h.3." of a block's tensors, else the tensor's own name.
std::string LayerOf(const std::string& name) { return name.starts_with("h.") ? name.substr(0, name.find('.', 2) + 1) : name; }

}  // namespace

Status CompareF32WithTruth(const GridCase& c, const GridResult& result) {
  const GptConfig& model = c.options.model;
  const Truth& truth = TruthOf(c);
  truth::SerialGpt<float> serial(TruthSizes(model), {.seed = kGridSeed, .std = model.init_std, .dropout = model.dropout});
  serial.Step(RandomBatch(c));
  std::map<std::string, double> layer_squares, serial_squares, grid_squares;
  for (const auto& [name, gradient] : truth.gradients) {
    layer_squares[LayerOf(name)] += SquaredDistance(gradient, std::vector<double>(gradient.size()));
    serial_squares[LayerOf(name)] += SquaredDistance(gradient, serial.gradients().at(name));
    grid_squares[LayerOf(name)] += SquaredDistance(gradient, result.gradients.at(name));
  }
  for (const auto& [name, gradient] : truth.gradients) {
    const double error = std::sqrt(SquaredDistance(gradient, result.gradients.at(name))), norm = std::sqrt(layer_squares[LayerOf(name)]);
    if (!(error <= 1e-5 * norm))
      return absl::InternalError(StrCat("f32 gradient of ", name, " is off by ", error, ", its layer's norm is ", norm));
  }
  for (const auto& [layer, squares] : grid_squares) {
    const double error = std::sqrt(squares), limit = 4 * std::sqrt(serial_squares[layer]);
    if (!(error <= limit))
      return absl::InternalError(StrCat("f32 gradients of ", layer, " are off by ", error, "; 4 times the serial run's is ", limit));
  }
  return OkStatus();
}

}  // namespace lycia
