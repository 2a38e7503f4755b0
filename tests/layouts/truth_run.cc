#include "tests/layouts/truth_run.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <tuple>

#include "absl/strings/str_format.h"
#include "runtime/core/check.h"
#include "tests/layouts/random_images.h"
#include "tests/truth/serial_images.h"

namespace lycia::layouts {
namespace {

truth::TokenBatch BatchOf(const RandomBatches& source, std::int64_t step, int samples) {
  truth::TokenBatch batch{samples, kContext, {}, {}};
  batch.tokens.resize(static_cast<std::size_t>(samples * kContext));
  batch.labels.resize(batch.tokens.size());
  source.Load(step, 0, samples, batch.tokens.data(), batch.labels.data());
  return batch;
}

template <typename Number>
Tensors Widened(const std::map<std::string, std::vector<Number>>& arrays) {
  Tensors tensors;
  for (const auto& [name, values] : arrays) tensors[name].assign(values.begin(), values.end());
  return tensors;
}

// Labels whose logit is the largest of its row.
template <typename Number>
int HitsOf(const truth::SerialGpt<Number>& gpt, const truth::TokenBatch& batch) {
  const std::vector<Number> logits = gpt.Logits(batch, /*dropout=*/false);
  int hits = 0;
  for (std::size_t i = 0; i < batch.labels.size(); ++i) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i) * kVocabulary;
    hits += batch.labels[i] >= 0 && *std::max_element(row, row + kVocabulary) == row[batch.labels[i]] ? 1 : 0;
  }
  return hits;
}

template <typename Number>
Record TrainTruth(const Layout& layout) {
  const truth::GptSizes sizes{.blocks = layout.blocks,
                              .width = layout.width,
                              .heads = layout.heads,
                              .kv_heads = layout.kv_heads,
                              .ffn = kFfn,
                              .context = kContext,
                              .vocabulary = kVocabulary,
                              .tied = layout.tied,
                              .rope_base = layout.rotary || layout.llama ? kRopeBase : 0,
                              .llama = layout.llama,
                              .norm_eps = layout.norm_eps()};
  const RandomBatches source(layout.masked);
  truth::SerialGpt<Number> gpt(sizes, TruthOptions(layout));
  Record record;
  for (int step = 0; step < kSteps; ++step) {
    const truth::StepResult result = gpt.Step(BatchOf(source, step, layout.global_batch()));
    const double clipped = layout.clip ? std::min(1.0, kClip / (result.grad_norm + 1e-6)) : 1.0;
    record.steps.push_back({result.loss, result.grad_norm, Widened(gpt.weights()), Widened(gpt.gradients()), clipped});
    // A norm below the clip would leave clipping untested.
    LYCIA_CHECK_GT(result.grad_norm, 1.1 * kClip);
    if (step > 0) continue;
    const int samples = kEvaluationBatches * layout.global_batch();
    record.evaluation = static_cast<double>(gpt.Loss(BatchOf(source, 0, samples), /*dropout=*/false)) *
                        static_cast<double>(source.LossTokens(0, 0, samples));
    record.hits = HitsOf(gpt, BatchOf(source, 0, samples));
  }
  return record;
}

truth::ImageBatch ImagesOf(const RandomImages& source, const ImageModelConfig& model, std::int64_t step, int samples) {
  truth::ImageBatch batch;
  batch.images.resize(static_cast<std::size_t>(samples * model.height * model.width * model.channels));
  batch.labels.resize(static_cast<std::size_t>(samples));
  source.Load(step, 0, samples, batch.images.data(), batch.labels.data());
  return batch;
}

template <typename Number>
Record TrainImageTruth(const Layout& layout) {
  const ImageModelConfig& model = *layout.images;
  const truth::ImageSizes sizes{.kind = model.kind == ImageModelKind::kCnn        ? "cnn"
                                        : model.kind == ImageModelKind::kResNet18 ? "resnet18"
                                                                                  : "resnet50",
                                .height = static_cast<int>(model.height),
                                .width = static_cast<int>(model.width),
                                .channels = static_cast<int>(model.channels),
                                .classes = static_cast<int>(model.classes),
                                .filters = static_cast<int>(model.filters),
                                .norm_samples = static_cast<int>(model.norm_samples),
                                .momentum = model.norm_momentum,
                                .mean = model.mean,
                                .deviation = model.deviation};
  const RandomImages source(model, layout.masked);
  truth::SerialImages<Number> trained(sizes, TruthOptions(layout));
  Record record;
  for (int step = 0; step < kSteps; ++step) {
    const truth::StepResult result = trained.Step(ImagesOf(source, model, step, layout.global_batch()));
    const double clipped = layout.clip ? std::min(1.0, kClip / (result.grad_norm + 1e-6)) : 1.0;
    record.steps.push_back(
        {result.loss, result.grad_norm, Widened(trained.weights()), Widened(trained.gradients()), clipped, Widened(trained.states())});
    LYCIA_CHECK_GT(result.grad_norm, 1.1 * kClip);
    if (step > 0) continue;
    const auto evaluation = trained.Evaluate(ImagesOf(source, model, 0, kEvaluationBatches * layout.global_batch()));
    record.evaluation = static_cast<double>(evaluation.loss);
    record.hits = evaluation.hits;
  }
  return record;
}

const Record& ImageTruthOf(const Layout& layout, bool f64) {
  using Key = std::tuple<int, int, std::int64_t, std::int64_t, bool, bool, bool>;
  static std::map<Key, Record>* const runs = new std::map<Key, Record>;
  const ImageModelConfig& model = *layout.images;
  auto [entry, fresh] = runs->try_emplace(
      Key(layout.global_batch(), static_cast<int>(model.kind), model.norm_samples, model.height, layout.clip, layout.masked, f64));
  if (fresh) entry->second = f64 ? TrainImageTruth<double>(layout) : TrainImageTruth<float>(layout);
  return entry->second;
}

double Norm(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

// The layer that a parameter is of: a block ("h.1", "layer2.0"), a convolution with its batch norm ("conv1" of "bn1.bias"), or itself.
std::string LayerOf(const std::string& name) {
  if (name.starts_with("h.") || name.starts_with("layer")) return name.substr(0, name.find('.', name.find('.') + 1));
  if (name.starts_with("bn")) return StrCat("conv", name.substr(2, name.find('.') - 2));
  return name.starts_with("conv") ? name.substr(0, name.find('.')) : name;
}

// 2-norm of all gradients of the layer that holds `name`.
double LayerGradientNorm(const Tensors& gradients, const std::string& name) {
  double squares = 0;
  for (const auto& [other, values] : gradients) {
    if (LayerOf(other) == LayerOf(name)) squares += std::pow(Norm(values), 2);
  }
  return std::sqrt(squares);
}

// How far Adam may move a weight apart from the truth's, given how far apart its gradients were. With e the largest difference of an
// element's clipped gradients so far, its averages m and sqrt(v) are off by at most e each, so that m / (sqrt(v) + eps) is off by at most
// e (1 + |m| / sqrt(v)) / (sqrt(v) + eps); and |m| <= 1.001 sqrt(v) in so few steps. Where gradients are near eps, or zero but for rounding
// (a key's bias, which moves all scores of a query alike), that is much more than the gradients' own difference.
class AdamReach {
 public:
  // Of one element after one more step.
  double AfterStep(double learning_rate, double gradient, double error) {
    decay_ *= kBeta2;
    squares_ = kBeta2 * squares_ + (1 - kBeta2) * gradient * gradient;
    error_ = std::max(error_, error);
    distance_ += learning_rate * (1e-12 + 2.001 * error_ / (std::sqrt(squares_ / (1 - decay_)) + kEps));
    return distance_;
  }

 private:
  double decay_ = 1, squares_ = 0, error_ = 0, distance_ = 0;
};

// Gradients at weights that are d apart (2-norm of all) differ by so many times d, relative to their layer's gradient norm: measured on
// the GPT, at most 0.6.
constexpr double kCurvature = 2;

// The element that is furthest beyond its limit.
struct Worst {
  double excess = 0;  // error / limit
  std::string text;

  void Add(const std::string& what, double actual, double expected, double limit) {
    const double error = std::abs(actual - expected);
    if (!(error / limit <= excess)) {  // a NaN is the worst of all
      excess = std::isnan(error) ? 1e300 : error / limit;
      text = absl::StrFormat("%s is %.17g, the truth %.17g, error %.3g, tolerance %.3g", what, actual, expected, error, limit);
    }
  }
  Status status() const { return excess <= 1 ? OkStatus() : absl::InternalError(text); }
};

}  // namespace

truth::TrainingOptions TruthOptions(const Layout& layout) {
  return {.seed = kSeed,
          .std = kInitialStd,
          .dropout = layout.dropout,
          .clip = layout.clip ? kClip : 0,
          .lr = kLearningRate,
          .min_lr = kMinLearningRate,
          .warmup = kWarmup,
          .steps = kSteps,
          .weight_decay = kWeightDecay,
          .beta1 = kBeta1,
          .beta2 = kBeta2,
          .eps = kEps};
}

const Record& TruthOf(const Layout& layout, DType precision) {
  using Key = std::tuple<int, int, int, int, int, bool, bool, bool, bool, bool, double, bool>;
  static std::map<Key, Record>* const runs = new std::map<Key, Record>;
  const bool f64 = precision == DType::kF64;
  if (layout.images) return ImageTruthOf(layout, f64);
  auto [entry, fresh] = runs->try_emplace(Key(layout.global_batch(), layout.blocks, layout.heads, layout.kv_heads, layout.width,
                                              layout.clip, layout.tied, layout.rotary, layout.llama, layout.masked, layout.dropout, f64));
  if (fresh) entry->second = f64 ? TrainTruth<double>(layout) : TrainTruth<float>(layout);
  return entry->second;
}

Status CompareWithTruth(const Record& record, const Record& truth) {
  Worst worst;
  if (record.steps.size() != truth.steps.size()) return absl::InternalError("another number of steps");
  std::map<std::string, std::vector<AdamReach>> reaches;
  double distance = 0;  // 2-norm of the weights' differences before the step
  for (std::size_t s = 0; s < record.steps.size(); ++s) {
    const StepRecord &step = record.steps[s], &expected = truth.steps[s];
    const std::string at = StrCat("step ", s, ": ");
    worst.Add(at + "loss", step.loss, expected.loss, 1e-12 * expected.loss + expected.grad_norm * distance);
    const double allowed = 1e-12 + kCurvature * distance;
    worst.Add(at + "gradient norm", step.grad_norm, expected.grad_norm, allowed * expected.grad_norm);
    for (const auto& [name, values] : step.gradients) {
      const double limit = allowed * LayerGradientNorm(expected.gradients, name);
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (std::isnan(values[i])) continue;  // of another owner; that there is one is checked where ranks are merged
        worst.Add(StrCat(at, "gradient ", name, "[", i, "]"), values[i], expected.gradients.at(name)[i], limit);
      }
    }
    for (const auto& [name, values] : step.states) {
      const auto found = expected.states.find(name);
      if (found == expected.states.end() || found->second.size() != values.size()) return absl::InternalError(StrCat("unexpected ", name));
      const double limit = allowed * std::max(1.0, Norm(found->second));
      for (std::size_t i = 0; i < values.size(); ++i)
        worst.Add(StrCat(at, "state ", name, "[", i, "]"), values[i], found->second[i], limit);
    }
    double squares = 0;
    for (const auto& [name, values] : step.weights) {
      const auto found = expected.weights.find(name);
      if (found == expected.weights.end() || found->second.size() != values.size()) return absl::InternalError(StrCat("unexpected ", name));
      const std::vector<double>& of_truth = expected.gradients.at(name);
      const auto mine = step.gradients.find(name);
      const double largest_error = allowed * LayerGradientNorm(expected.gradients, name);
      std::vector<AdamReach>& reach = reaches[name];
      reach.resize(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (std::isnan(values[i])) continue;  // of another rank of the grid
        const double gradient = mine == step.gradients.end() ? NAN : mine->second[i];
        const double error = std::isnan(gradient) ? largest_error : std::abs(gradient - of_truth[i]);  // another owner knows it
        const double limit = reach[i].AfterStep(kLearningRate, expected.clip_factor * of_truth[i], expected.clip_factor * error);
        worst.Add(StrCat(at, "weight ", name, "[", i, "]"), values[i], found->second[i], limit);
        squares += std::pow(values[i] - found->second[i], 2);
      }
    }
    distance = std::sqrt(squares);
  }
  worst.Add("evaluation", record.evaluation, truth.evaluation, 1e-12 * truth.evaluation);
  if (record.hits >= 0) worst.Add("hits", record.hits, truth.hits, 0.5);
  return worst.status();
}

Status CompareInLowPrecision(const Record& record, const Record& serial, const Record& truth, const Tolerance& tolerance) {
  Worst worst;
  const Tensors& expected = truth.steps[0].gradients;
  for (const auto& [name, values] : expected) {
    if (!record.steps[0].gradients.contains(name)) return absl::InternalError(StrCat("the record has no gradient of ", name));
    if (!serial.steps[0].gradients.contains(name)) return absl::InternalError(StrCat("the serial run has no gradient of ", name));
  }
  auto error_of = [&](const std::string& name, const Tensors& gradients) {
    std::vector<double> error = gradients.at(name);
    for (std::size_t i = 0; i < error.size(); ++i) error[i] -= expected.at(name)[i];
    return Norm(error);
  };
  for (const auto& [name, values] : expected) {
    const double layer = LayerGradientNorm(expected, name), error = error_of(name, record.steps[0].gradients);
    const double of_serial = error_of(name, serial.steps[0].gradients);
    worst.Add(StrCat("gradient error of ", name, " against its layer's norm"), error, 0, tolerance.of_layer * layer);
    worst.Add(StrCat("gradient error of ", name, " against the serial run's ", of_serial), error, 0,
              4 * std::max(of_serial, tolerance.rounding * layer));
  }
  return worst.status();
}

}  // namespace lycia::layouts
