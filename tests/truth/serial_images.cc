#include "tests/truth/serial_images.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <deque>
#include <functional>

#include "runtime/core/check.h"
#include "runtime/core/philox.h"
#include "tests/truth/plain_adamw.h"
#include "tests/truth/plain_image_ops.h"

namespace lycia::truth {
namespace {

using std::size_t;

// Of all but vectors.
bool Decays(const std::string& name) {
  return name.ends_with(".weight") && name.find("bn") == std::string::npos && !name.ends_with("downsample.1.weight");
}

}  // namespace

// Each operation makes a node and says how to get from its gradient to those of what it read.
template <typename Number>
struct SerialImages<Number>::Pass {
  struct Node {
    Images<Number> out;
    Array gradient;
  };
  const ImageSizes& sizes;
  Arrays& weights;  // and states, where new_seed says so, are made when they are first asked for
  Arrays& states;
  Arrays* gradients = nullptr;  // +=; null: none wanted
  bool training = true;
  Arrays* new_states = nullptr;  // what the running statistics become; null: not wanted
  const std::uint64_t* new_seed = nullptr;
  std::deque<Node> nodes;
  std::vector<std::function<void()>> backward;
  size_t hits = 0;

  Node* New(Images<Number> out) {
    Array gradient(out.x.size());
    return &nodes.emplace_back(Node{std::move(out), std::move(gradient)});
  }
  Array& Vectors(Arrays& of, const std::string& name, size_t size, double value) {
    if (new_seed != nullptr) of.try_emplace(name, size, static_cast<Number>(value));
    return of.at(name);
  }
  Array& Normal(const std::string& name, size_t size, double variance) {
    if (new_seed == nullptr) return weights.at(name);
    Array& weight = weights[name] = Array(size);
    const RandomStream random(*new_seed, "init/" + name, 0);
    for (size_t i = 0; i < size; ++i) weight[i] = static_cast<Number>(std::sqrt(variance) * random.Normal(i));
    return weight;
  }

  Node* Conv(Node* in, const std::string& name, size_t filters, const Window& window) {
    const size_t of_filter = window.size * window.size;
    const Array& w = Normal(name + ".weight", filters * of_filter * in->out.c, 2.0 / static_cast<double>(filters * of_filter));
    Node* node = New(Convolution(in->out, w, window));
    backward.push_back(
        [=, this, &w] { ConvolutionBackward(in->out, w, window, node->gradient, gradients->at(name + ".weight"), in->gradient); });
    return node;
  }

  // Over groups of norm_samples samples; in evaluation by the running statistics.
  Node* Norm(Node* in, const std::string& name) {
    const size_t C = in->out.c, rows = sizes.norm_samples * in->out.h * in->out.w;
    const Array &gamma = Vectors(weights, name + ".weight", C, 1), &beta = Vectors(weights, name + ".bias", C, 0);
    const Array &old_mean = Vectors(states, name + ".running_mean", C, 0), &old_variance = Vectors(states, name + ".running_var", C, 1);
    Images<Number> out = in->out;
    std::vector<ChannelStatistics<Number>> all(in->out.pixels() / rows * C);
    for (size_t i = 0; i < all.size(); ++i) {
      ChannelStatistics<Number>& s = all[i];
      const size_t c = i % C, first = i / C * rows;
      if (training) {
        s = ChannelStatistics<Number>::Of(in->out, c, first, rows);
      } else {
        s = {old_mean[c], old_variance[c], Number(1) / std::sqrt(old_variance[c] + static_cast<Number>(1e-5))};
      }
      for (size_t r = first; r < first + rows; ++r) out.x[r * C + c] = (in->out.x[r * C + c] - s.mean) * s.rstd * gamma[c] + beta[c];
      if (new_states == nullptr) continue;
      const double m = sizes.momentum, unbiased = rows > 1 ? static_cast<double>(rows) / static_cast<double>(rows - 1) : 1;
      Number &mean = new_states->at(name + ".running_mean")[c], &variance = new_states->at(name + ".running_var")[c];
      mean = static_cast<Number>(1 - m) * mean + static_cast<Number>(m) * s.mean;
      variance = static_cast<Number>(1 - m) * variance + static_cast<Number>(m * unbiased) * s.variance;
    }
    Node* node = New(std::move(out));
    backward.push_back([=, this, &gamma, all = std::move(all)] {
      Array &dgamma = gradients->at(name + ".weight"), &dbeta = gradients->at(name + ".bias");
      for (size_t i = 0; i < all.size(); ++i) {
        const size_t c = i % C;
        all[i].Backward(in->out, c, i / C * rows, rows, gamma[c], node->gradient, dgamma[c], dbeta[c], in->gradient);
      }
    });
    return node;
  }

  Node* Relu(Node* in) {
    Images<Number> out = in->out;
    for (Number& x : out.x) x = Real(x) > 0 ? x : Number(0);
    Node* node = New(std::move(out));
    backward.push_back([=] {
      for (size_t i = 0; i < in->gradient.size(); ++i) in->gradient[i] += Real(in->out.x[i]) > 0 ? node->gradient[i] : Number(0);
    });
    return node;
  }

  Node* Plus(Node* a, Node* b) {
    Images<Number> out = a->out;
    LYCIA_CHECK(out.x.size() == b->out.x.size());
    for (size_t i = 0; i < out.x.size(); ++i) out.x[i] += b->out.x[i];
    Node* node = New(std::move(out));
    backward.push_back([=] {
      for (size_t i = 0; i < node->gradient.size(); ++i) a->gradient[i] += node->gradient[i], b->gradient[i] += node->gradient[i];
    });
    return node;
  }

  Node* MaxPool(Node* in, const Window& window) {
    std::vector<size_t> winner;
    Node* node = New(LargestOf(in->out, window, winner));
    backward.push_back([=, winner = std::move(winner)] {
      for (size_t i = 0; i < winner.size(); ++i) in->gradient[winner[i]] += node->gradient[i];
    });
    return node;
  }

  Node* Mean(Node* in) {
    const size_t C = in->out.c, pixels = in->out.h * in->out.w;
    const Number share = static_cast<Number>(1 / static_cast<double>(pixels));
    Images<Number> out = Images<Number>::Zero(in->out.n, 1, 1, C);
    for (size_t i = 0; i < in->out.x.size(); ++i) out.x[i / C / pixels * C + i % C] += in->out.x[i] * share;
    Node* node = New(std::move(out));
    backward.push_back([=] {
      for (size_t i = 0; i < in->gradient.size(); ++i) in->gradient[i] += node->gradient[i / C / pixels * C + i % C] * share;
    });
    return node;
  }

  // x [n, F] wᵀ + b, w [units, F]; pixels of an image lie row by row in F.
  Node* Dense(Node* in, const std::string& name, size_t units, double variance_times_features) {
    const size_t F = in->out.x.size() / in->out.n;
    const Array& w = Normal(name + ".weight", units * F, variance_times_features / static_cast<double>(F));
    const Array& b = Vectors(weights, name + ".bias", units, 0);
    Node* node = New({in->out.n, 1, 1, units, Linear(in->out.x, Transposed(w, F), b)});
    backward.push_back([=, this, &w] {
      Array dw_t(w.size());
      const Array din = LinearBackward(in->out.x, Transposed(w, F), node->gradient, dw_t, gradients->at(name + ".bias"));
      const Array dw = Transposed(dw_t, units);
      for (size_t i = 0; i < dw.size(); ++i) gradients->at(name + ".weight")[i] += dw[i];
      for (size_t i = 0; i < din.size(); ++i) in->gradient[i] += din[i];
    });
    return node;
  }

  Node* Unit(Node* in, const std::string& conv, const std::string& norm, size_t filters, const Window& window) {
    return Norm(Conv(in, conv, filters, window), norm);
  }

  Node* Block(Node* in, const std::string& name, bool bottleneck, size_t filters, size_t stride) {
    const size_t out = bottleneck ? 4 * filters : filters;
    Node* x = in;
    if (bottleneck) {
      x = Relu(Unit(x, name + "conv1", name + "bn1", filters, {1, 1, 0}));
      x = Relu(Unit(x, name + "conv2", name + "bn2", filters, {3, stride, 1}));
      x = Unit(x, name + "conv3", name + "bn3", out, {1, 1, 0});
    } else {
      x = Relu(Unit(x, name + "conv1", name + "bn1", filters, {3, stride, 1}));
      x = Unit(x, name + "conv2", name + "bn2", filters, {3, 1, 1});
    }
    if (stride != 1 || in->out.c != out) in = Unit(in, name + "downsample.0", name + "downsample.1", out, {1, stride, 0});
    return Relu(Plus(x, in));
  }

  Node* Logits(Node* x) {
    const size_t classes = sizes.classes;
    if (sizes.kind == "cnn") {
      x = MaxPool(Relu(Unit(x, "conv1", "bn1", 32, {3, 1, 1})), {2, 2, 0});
      x = MaxPool(Relu(Unit(x, "conv2", "bn2", 64, {3, 1, 1})), {2, 2, 0});
      return Dense(Relu(Dense(x, "fc1", 128, 2)), "fc2", classes, 1.0 / 3);
    }
    const bool bottleneck = sizes.kind == "resnet50", small = std::min(sizes.height, sizes.width) < 96;
    const size_t filters = sizes.filters;
    x = Relu(Unit(x, "conv1", "bn1", filters, small ? Window{3, 1, 1} : Window{7, 2, 3}));
    if (!small) x = MaxPool(x, {3, 2, 1});
    const std::array<int, 4> blocks = bottleneck ? std::array{3, 4, 6, 3} : std::array{2, 2, 2, 2};
    for (size_t group = 0; group < 4; ++group) {
      for (int block = 0; block < blocks[group]; ++block) {
        const std::string name = "layer" + std::to_string(group + 1) + "." + std::to_string(block) + ".";
        x = Block(x, name, bottleneck, filters << group, group > 0 && block == 0 ? 2 : 1);
      }
    }
    return Dense(Mean(x), "fc", classes, 1.0 / 3);
  }

  // The sum of the cross-entropies, sample by sample; of their mean, the gradients.
  Number Run(const ImageBatch& batch, double* loss_labels = nullptr) {
    Images<Number> bytes = Images<Number>::Zero(batch.labels.size(), static_cast<size_t>(sizes.height), static_cast<size_t>(sizes.width),
                                                static_cast<size_t>(sizes.channels));
    LYCIA_CHECK(bytes.x.size() == batch.images.size() && bytes.n % sizes.norm_samples == 0) << "bad batch";
    for (size_t i = 0; i < bytes.x.size(); ++i) {
      const size_t c = i % bytes.c;
      bytes.x[i] = static_cast<Number>((batch.images[i] / 255.0 - sizes.mean[c]) / sizes.deviation[c]);
    }
    Node* logits = Logits(New(std::move(bytes)));
    const double labels = static_cast<double>(std::ranges::count_if(batch.labels, [](int label) { return label >= 0; }));
    if (loss_labels != nullptr) *loss_labels = labels;
    Number loss = 0;
    const size_t V = logits->out.c;
    for (size_t n = 0; n < batch.labels.size(); ++n) {
      if (batch.labels[n] < 0) continue;
      const size_t label = static_cast<size_t>(batch.labels[n]);
      Array row(logits->out.x.begin() + n * V, logits->out.x.begin() + (n + 1) * V);
      const Number logit = row[label];
      hits += std::ranges::all_of(row, [&](const Number& other) { return Real(other) <= Real(logit); }) ? 1 : 0;
      loss += Softmax(row.data(), V) - logit;
      row[label] -= Number(1);
      for (size_t v = 0; v < V; ++v) logits->gradient[n * V + v] = row[v] / static_cast<Number>(labels);
    }
    for (size_t i = backward.size(); gradients != nullptr && i-- > 0;) backward[i]();
    return loss;
  }
};

template <typename Number>
SerialImages<Number>::SerialImages(const ImageSizes& sizes, const TrainingOptions& options) : sizes_(sizes), options_(options) {
  const size_t samples = static_cast<size_t>(sizes.norm_samples);
  Pass{.sizes = sizes_, .weights = weights_, .states = states_, .new_seed = &options_.seed}.Run(
      {std::vector<std::uint8_t>(samples * sizes.height * sizes.width * sizes.channels), std::vector<std::int32_t>(samples)});
  for (const auto& [name, weight] : weights_) gradients_[name] = first_moments_[name] = second_moments_[name] = Array(weight.size());
}

template <typename Number>
Number SerialImages<Number>::TrainingLoss(const ImageBatch& batch) const {
  Arrays weights = weights_, states = states_;
  double labels = 0;
  const Number loss = Pass{.sizes = sizes_, .weights = weights, .states = states}.Run(batch, &labels);
  return loss / static_cast<Number>(labels);
}

template <typename Number>
typename SerialImages<Number>::Evaluation SerialImages<Number>::Evaluate(const ImageBatch& batch) const {
  Arrays weights = weights_, states = states_;
  Pass pass{.sizes = sizes_, .weights = weights, .states = states, .training = false};
  const Number loss = pass.Run(batch);
  return {loss, static_cast<int>(pass.hits)};
}

template <typename Number>
StepResult SerialImages<Number>::Step(const ImageBatch& batch) {
  for (auto& [name, gradient] : gradients_) std::ranges::fill(gradient, Number(0));
  double labels = 0, squares = 0;
  const Number loss =
      Pass{.sizes = sizes_, .weights = weights_, .states = states_, .gradients = &gradients_, .new_states = &states_}.Run(batch, &labels);
  for (const auto& [name, gradient] : gradients_) {
    for (const Number& g : gradient) squares += Real(g) * Real(g);
  }
  const StepResult result{Real(loss) / labels, std::sqrt(squares), LearningRate(options_, step_)};
  ++step_;
  const double clip_factor = options_.clip > 0 ? std::min(1.0, options_.clip / (result.grad_norm + 1e-6)) : 1.0;
  AdamW<Number>{options_, step_, result.lr, clip_factor}.Update(Decays, gradients_, weights_, first_moments_, second_moments_);
  return result;
}

template class SerialImages<float>;
template class SerialImages<double>;
template class SerialImages<std::complex<double>>;

}  // namespace lycia::truth
