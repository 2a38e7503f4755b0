#include "tests/truth/serial_trainer.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/philox.h"
#include "tests/truth/plain_adamw.h"
#include "tests/truth/plain_attention.h"
#include "tests/truth/plain_ops.h"

namespace lycia::truth {
namespace {

using std::size_t;

bool IsMatrix(const std::string& name) { return name.ends_with(".weight") && name.find("ln_") == std::string::npos; }

std::map<std::string, size_t> ParameterSizes(const GptSizes& s) {
  const size_t C = s.width, F = s.ffn, V = s.vocabulary, QKV = C + 2 * (s.kv_heads == 0 ? s.heads : s.kv_heads) * (C / s.heads);
  std::map<std::string, size_t> sizes = {{"wte.weight", V * C}, {"ln_f.weight", C}, {"ln_f.bias", C}};
  const size_t fc = s.llama ? 2 * F : F;  // gate and up side by side
  if (s.rope_base == 0) sizes["wpe.weight"] = s.context * C;
  if (!s.tied) sizes["lm_head.weight"] = V * C;
  for (int i = 0; i < s.blocks; ++i) {
    const std::string h = "h." + std::to_string(i) + ".";
    sizes.insert({{h + "ln_1.weight", C},
                  {h + "ln_1.bias", C},
                  {h + "attn.c_attn.weight", C * QKV},
                  {h + "attn.c_attn.bias", QKV},
                  {h + "attn.c_proj.weight", C * C},
                  {h + "attn.c_proj.bias", C},
                  {h + "ln_2.weight", C},
                  {h + "ln_2.bias", C},
                  {h + "mlp.c_fc.weight", C * fc},
                  {h + "mlp.c_fc.bias", fc},
                  {h + "mlp.c_proj.weight", F * C},
                  {h + "mlp.c_proj.bias", C}});
  }
  if (s.llama) std::erase_if(sizes, [](const auto& entry) { return entry.first.ends_with(".bias"); });
  return sizes;
}

}  // namespace

// One batch forward and backward, everything materialised. M = samples * sequence tokens.
template <typename Number>
struct SerialGpt<Number>::Pass {
  const GptSizes& sizes;
  const TokenBatch& batch;
  const Arrays& weights;
  const std::uint64_t seed, step;
  const double rate;        // of dropout
  Arrays* gradients;        // +=; null: forward only
  Array* logits = nullptr;  // =; null: not wanted
  double loss_tokens = 0;
  const size_t B = batch.samples, T = batch.sequence, C = sizes.width, H = sizes.heads;
  const bool rotary = sizes.rope_base > 0;
  const Attention<Number> attention = {B, T, H, C / H, sizes.kv_heads == 0 ? H : static_cast<size_t>(sizes.kv_heads)};

  const Array& W(const std::string& name) const { return weights.at(name); }
  Array& G(const std::string& name) const { return gradients->at(name); }

  // What dropout multiplies with, 0 or 1 / (1 - rate); being diagonal, it maps gradients back too.
  Array Mask(const std::string& name, size_t count) const {
    const RandomStream random(seed, "dropout/" + name, step);
    Array mask(count, Number(1));
    for (size_t i = 0; rate > 0 && i < count; ++i) mask[i] = random.Uniform(i) >= rate ? static_cast<Number>(1 / (1 - rate)) : Number(0);
    return mask;
  }
  static Array Times(Array x, const Array& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
    return x;
  }
  static Array Plus(Array x, const Array& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    return x;
  }
  // x W + b; a Llama has zeros for b, and nobody wants their gradient.
  Array Affine(const Array& x, const std::string& name) const {
    const Array& w = W(name + ".weight");
    return Linear(x, w, sizes.llama ? Array(w.size() * B * T / x.size()) : W(name + ".bias"));
  }
  Array AffineBackward(const Array& x, const std::string& name, const Array& dy) const {
    Array unwanted(dy.size() / (B * T));
    return LinearBackward(x, W(name + ".weight"), dy, G(name + ".weight"), sizes.llama ? unwanted : G(name + ".bias"));
  }
  Array Norm(const Array& x, const std::string& name) const {
    const Array& w = W(name + ".weight");
    if (sizes.llama) return RmsNorm<Number>{x, w, sizes.norm_eps}.Forward();
    return LayerNorm<Number>{x, w, sizes.norm_eps}.Forward(W(name + ".bias"));
  }
  Array NormBackward(const Array& x, const std::string& name, const Array& dy) const {
    const Array& w = W(name + ".weight");
    if (sizes.llama) return RmsNorm<Number>{x, w, sizes.norm_eps}.Backward(dy, G(name + ".weight"));
    return LayerNorm<Number>{x, w, sizes.norm_eps}.Backward(dy, G(name + ".weight"), G(name + ".bias"));
  }
  Array Activated(Array fc) const {
    if (sizes.llama) return SwiGlu(fc, sizes.ffn);
    for (Number& x : fc) x = Gelu(x);
    return fc;
  }
  Array ActivatedBackward(Array fc, const Array& dy) const {
    if (sizes.llama) return SwiGluBackward(fc, sizes.ffn, dy);
    for (Number& x : fc) x = GeluDerivative(x);
    return Times(dy, fc);
  }

  // Block i and everything after it, x [M, C]; returns the loss, and in dx, if gradients are wanted, the gradient of x.
  Number From(int i, const Array& x, Array& dx) {
    if (i == sizes.blocks) return HeadAndLoss(x, dx);
    const std::string h = "h." + std::to_string(i) + ".";
    const Array attn_mask = Mask(h + "attn", B * H * T * T);
    const Array attn_out = Mask(h + "attn_out", x.size()), mlp_out = Mask(h + "mlp_out", x.size());
    Array probabilities, dy;
    const Array norm_1 = Norm(x, h + "ln_1"), affine = Affine(norm_1, h + "attn.c_attn");
    const Array qkv = rotary ? attention.Turned(affine, sizes.rope_base, 1) : affine;
    const Array mixed = attention.Forward(qkv, attn_mask, probabilities);
    const Array middle = Plus(x, Times(Affine(mixed, h + "attn.c_proj"), attn_out));
    const Array norm_2 = Norm(middle, h + "ln_2"), fc = Affine(norm_2, h + "mlp.c_fc");
    const Array active = Activated(fc);
    const Number loss = From(i + 1, Plus(middle, Times(Affine(active, h + "mlp.c_proj"), mlp_out)), dy);
    if (gradients == nullptr) return loss;

    const Array dactive = AffineBackward(active, h + "mlp.c_proj", Times(dy, mlp_out));
    const Array dnorm_2 = AffineBackward(norm_2, h + "mlp.c_fc", ActivatedBackward(fc, dactive));
    const Array dmiddle = Plus(dy, NormBackward(middle, h + "ln_2", dnorm_2));
    const Array dmixed = AffineBackward(mixed, h + "attn.c_proj", Times(dmiddle, attn_out));
    Array dqkv = attention.Backward(qkv, attn_mask, probabilities, dmixed);
    if (rotary) dqkv = attention.Turned(std::move(dqkv), sizes.rope_base, -1);
    dx = Plus(dmiddle, NormBackward(x, h + "ln_1", AffineBackward(norm_1, h + "attn.c_attn", dqkv)));
    return loss;
  }

  // logits = ln_f(x) head^T; mean cross-entropy over the labels that are not -1, added sample by sample.
  Number HeadAndLoss(const Array& x, Array& dx) {
    const std::string head = sizes.tied ? "wte.weight" : "lm_head.weight";
    const Array normed = Norm(x, "ln_f"), head_t = Transposed(W(head), C);  // [C, V]
    const size_t V = sizes.vocabulary;
    Array dlogits = Linear(normed, head_t, Array(V));
    if (logits != nullptr) *logits = dlogits;
    Number loss = 0;
    for (size_t b = 0; b < B; ++b) {
      Number of_sample = 0;
      for (size_t m = b * T; m < (b + 1) * T; ++m) {
        const int label = batch.labels[m];
        Number* row = &dlogits[m * V];
        const Number logit = label < 0 ? Number(0) : row[label], log_sum = Softmax(row, V);
        if (label >= 0) of_sample += log_sum - logit, row[label] -= Number(1);
        for (size_t v = 0; v < V; ++v) row[v] *= label < 0 ? Number(0) : static_cast<Number>(1 / loss_tokens);
      }
      loss += of_sample;
    }
    if (gradients != nullptr) {
      Array dhead_t(head_t.size()), no_bias(V);
      dx = NormBackward(x, "ln_f", LinearBackward(normed, head_t, dlogits, dhead_t, no_bias));
      G(head) = Plus(G(head), Transposed(dhead_t, V));
    }
    return loss / static_cast<Number>(loss_tokens);
  }

  Number Run() {
    LYCIA_CHECK(batch.tokens.size() == B * T && batch.labels.size() == B * T && T <= static_cast<size_t>(sizes.context)) << "bad batch";
    loss_tokens = static_cast<double>(std::ranges::count_if(batch.labels, [](int label) { return label >= 0; }));
    LYCIA_CHECK(loss_tokens > 0) << "a batch without a loss token";
    const Array mask = Mask("embedding", B * T * C);
    Array x(B * T * C), dx;
    for (size_t i = 0; i < x.size(); ++i) x[i] = W("wte.weight")[batch.tokens[i / C] * C + i % C];
    for (size_t i = 0; i < x.size() && !rotary; ++i) x[i] += W("wpe.weight")[i / C % T * C + i % C];
    const Number loss = From(0, Times(x, mask), dx);
    for (size_t i = 0; i < dx.size(); ++i) {
      G("wte.weight")[batch.tokens[i / C] * C + i % C] += dx[i] * mask[i];
      if (!rotary) G("wpe.weight")[i / C % T * C + i % C] += dx[i] * mask[i];
    }
    return loss;
  }
};

template <typename Number>
SerialGpt<Number>::SerialGpt(const GptSizes& sizes, const TrainingOptions& options) : sizes_(sizes), options_(options) {
  for (const auto& [name, size] : ParameterSizes(sizes)) {
    Array& weight = weights_[name] = Array(size, IsMatrix(name) || name.ends_with(".bias") ? Number(0) : Number(1));
    first_moments_[name] = second_moments_[name] = gradients_[name] = Array(size);
    const RandomStream random(options.seed, "init/" + name, 0);
    const double std = name.ends_with("c_proj.weight") ? options.std / std::sqrt(2.0 * sizes.blocks) : options.std;
    for (size_t i = 0; IsMatrix(name) && i < size; ++i) weight[i] = static_cast<Number>(std * random.Normal(i));
  }
}

template <typename Number>
Number SerialGpt<Number>::Loss(const TokenBatch& batch, bool dropout) const {
  return Pass{sizes_, batch, weights_, options_.seed, static_cast<std::uint64_t>(step_), dropout ? options_.dropout : 0, nullptr}.Run();
}

template <typename Number>
typename SerialGpt<Number>::Array SerialGpt<Number>::Logits(const TokenBatch& batch, bool dropout) const {
  Array logits;
  Pass{sizes_, batch, weights_, options_.seed, static_cast<std::uint64_t>(step_), dropout ? options_.dropout : 0, nullptr, &logits}.Run();
  return logits;
}

template <typename Number>
StepResult SerialGpt<Number>::Step(const TokenBatch& batch) {
  for (auto& [name, gradient] : gradients_) std::ranges::fill(gradient, Number(0));
  const Number loss = Pass{sizes_, batch, weights_, options_.seed, static_cast<std::uint64_t>(step_), options_.dropout, &gradients_}.Run();
  double squares = 0;
  for (const auto& [name, gradient] : gradients_) {
    for (const Number& g : gradient) squares += Real(g) * Real(g);
  }
  const StepResult result{Real(loss), std::sqrt(squares), LearningRate(options_, step_)};
  ++step_;
  Update(result.lr, options_.clip > 0 ? std::min(1.0, options_.clip / (result.grad_norm + 1e-6)) : 1.0);
  return result;
}

template <typename Number>
void SerialGpt<Number>::Update(double lr, double clip_factor) {
  AdamW<Number>{options_, step_, lr, clip_factor}.Update(IsMatrix, gradients_, weights_, first_moments_, second_moments_);
}

double LearningRate(const TrainingOptions& o, int step) {
  if (step < o.warmup) return o.lr * (step + 1) / o.warmup;
  const double progress = static_cast<double>(step - o.warmup) / std::max(1, o.steps - o.warmup);
  return o.min_lr + (o.lr - o.min_lr) * (1 + std::cos(std::numbers::pi * progress)) / 2;
}

template class SerialGpt<float>;
template class SerialGpt<double>;
template class SerialGpt<std::complex<double>>;

}  // namespace lycia::truth
