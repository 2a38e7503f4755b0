// The layers of GPT-2 and Llama one by one, where a layout's equality with the truth would not say which of them is wrong.
#include "models/gpt.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "runtime/core/philox.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

constexpr std::int64_t kSamples = 2, kFirstSample = 3;
constexpr StageSlots kSlots{.stash = 0, .input = 0, .handoff = 0};
const GptConfig kConfig{
    .layers = 2, .heads = 2, .hidden = 8, .context = 6, .vocab = 17, .ffn = 20, .tied = false, .dropout = 0.2, .init_std = 0.3};

// A random value for every (what, i), the same in every run.
double Value(const std::string& what, std::int64_t i) { return RandomStream(5, what, 0).Normal(static_cast<std::uint64_t>(i)); }

// Some layers of the model as a stage, with input, weights and the gradient of the output filled in at random.
struct Part {
  Part(const GptConfig& config, int first, int count, bool split = false) {
    std::vector<std::unique_ptr<Layer>> all = GptLayers(config), layers;
    std::vector<TensorSpec> in = {{DType::kI32, {kSamples, config.context}}};
    if (first > 0) in = {{DType::kF64, {kSamples, config.context, config.hidden}}};
    for (int i = first; i < first + count; ++i) layers.push_back(std::move(all[static_cast<std::size_t>(i)]));
    stage = *LayerStage::Create(std::move(layers), in, {.compute = DType::kF64, .split_backward = split});
    memory = std::make_unique<StageMemoryForTest>(*stage, 1);
    for (auto& [name, values] : memory->weights()) {
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = 0.5 * Value(name, static_cast<std::int64_t>(i)) + (name.ends_with(".weight") ? 0.1 : 0.0);
    }
    const std::int64_t elements = in[0].elements();
    for (std::int64_t i = 0; i < elements; ++i) {
      if (first == 0) {
        static_cast<std::int32_t*>(stage->input(kSlots))[i] = static_cast<std::int32_t>(i * 7 % config.vocab);
      } else {
        static_cast<double*>(stage->input(kSlots))[i] = Value("x", i);
      }
      if (stage->reads_labels() && i < kSamples * config.context) {
        static_cast<std::int32_t*>(stage->labels(kSlots))[i] = i % 5 == 0 ? -1 : static_cast<std::int32_t>(i * 3 % config.vocab);
      }
    }
    if (!stage->reads_labels()) {
      out.resize(static_cast<std::size_t>(stage->outputs()[0].elements()));
      for (std::size_t i = 0; i < out.size(); ++i) dout.push_back(Value("dout", static_cast<std::int64_t>(i)));
    }
    din.resize(first == 0 ? 0 : static_cast<std::size_t>(elements));
    context = {.stream = stream.get(), .seed = 9, .step = 4, .samples = {kFirstSample, kSamples}, .gradient_scale = 0.125};
  }

  // What the backward is the derivative of: <dout, out>, or the scaled loss.
  double Objective() {
    std::vector<double> losses(kSamples, 0);
    context.sample_losses = losses.data();
    stage->Forward(context, kSlots, out.empty() ? nullptr : out.data());
    context.sample_losses = nullptr;
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
    for (const double loss : losses) sum += out.empty() ? loss * context.gradient_scale : 0.0;
    return sum;
  }
  const void* Dout() const { return dout.empty() ? nullptr : dout.data(); }
  void* Din() { return din.empty() ? nullptr : din.data(); }

  std::unique_ptr<Device> device = NewCpuDevice();
  std::unique_ptr<Stream> stream = *device->NewStream();
  std::unique_ptr<LayerStage> stage;
  std::unique_ptr<StageMemoryForTest> memory;
  StageContext context;
  std::vector<double> out, dout, din;
};

// Fourth-order central difference of the objective in one variable.
double Derivative(Part& part, double& variable) {
  constexpr double kStep = 1e-3;
  const double at = variable;
  auto objective = [&](double offset) {
    variable = at + offset;
    const double value = part.Objective();
    variable = at;
    return value;
  };
  return (8 * (objective(kStep) - objective(-kStep)) - (objective(2 * kStep) - objective(-2 * kStep))) / (12 * kStep);
}

// Embedding, attention block, MLP block, head.
class GptLayer : public ::testing::TestWithParam<int> {};

TEST_P(GptLayer, BackwardIsTheDerivativeOfForward) {
  GptConfig plain = kConfig, rotary = kConfig, llama = kConfig;
  plain.dropout = 0;
  rotary.position = llama.position = PositionEncoding::kRotary;
  rotary.rope_base = llama.rope_base = 20;
  llama.family = GptFamily::kLlama;
  llama.kv_heads = 1;
  llama.norm_eps = 0.3;
  for (const GptConfig& config : {plain, kConfig, rotary, llama}) {
    SCOPED_TRACE(::testing::Message() << "rotary " << config.rotary() << " llama " << config.rms_norm() << " dropout " << config.dropout);
    Part part(config, GetParam(), 1);
    part.Objective();
    part.stage->Backward(part.context, kSlots, part.Dout(), part.Din());
    const std::map<std::string, std::vector<double>> gradients = part.memory->gradients();
    double largest = 0;
    for (auto& [name, weights] : part.memory->weights()) {
      for (std::size_t i = 0; i < weights.size(); i += 1 + weights.size() / 40) {
        EXPECT_NEAR(gradients.at(name)[i], Derivative(part, weights[i]), 1e-8) << name << "[" << i << "]";
        largest = std::max(largest, std::abs(gradients.at(name)[i]));
      }
    }
    EXPECT_GT(largest, 0.01);
    for (std::size_t i = 0; i < part.din.size(); i += 3) {
      EXPECT_NEAR(part.din[i], Derivative(part, static_cast<double*>(part.stage->input(kSlots))[i]), 1e-8) << "din[" << i << "]";
    }
  }
}

// Gradients of parameters are added to, and dropout has its part in the objective above.
TEST_P(GptLayer, WeightGradientsAccumulate) {
  Part once(kConfig, GetParam(), 1), twice(kConfig, GetParam(), 1);
  for (Part* part : {&once, &twice, &twice}) {
    part->Objective();
    part->stage->Backward(part->context, kSlots, part->Dout(), part->Din());
  }
  for (const auto& [name, values] : once.memory->gradients()) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(twice.memory->gradients().at(name)[i], 2 * values[i], 1e-12 * std::abs(values[i]) + 1e-14) << name << "[" << i << "]";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, GptLayer, ::testing::Values(0, 1, 2, 5), [](const auto& info) {
  return std::string(info.param == 0 ? "Embedding" : info.param == 1 ? "Attention" : info.param == 2 ? "Mlp" : "Head");
});

TEST(Gpt, ASplitBackwardHasTheBitsOfTheFullOne) {
  for (const bool tied : {false, true}) {
    GptConfig config = kConfig;
    config.tied = tied;
    Part full(config, 0, 6, false), split(config, 0, 6, true);
    full.Objective();
    full.stage->Backward(full.context, kSlots, nullptr, nullptr);
    split.Objective();
    split.stage->BackwardInput(split.context, kSlots, nullptr, nullptr);
    split.memory->Poison(Area::kTransient);
    split.memory->Poison(Area::kInput);
    split.stage->BackwardWeight(split.context, kSlots);
    EXPECT_TRUE(full.memory->gradients() == split.memory->gradients()) << "tied " << tied;
    EXPECT_TRUE(full.memory->BordersAreIntact() && split.memory->BordersAreIntact());
    EXPECT_EQ(full.memory->gradients().contains("wte.weight#1"), tied);
  }
}

// Four heads on two key/value heads are a full attention whose heads 0, 1 and 2, 3 have equal keys and values; their gradients add up.
TEST(Gpt, GroupedQueriesAreHeadsThatShareKeysAndValues) {
  constexpr std::size_t kHidden = 8, kHeads = 4, kKeyHeads = 2, kDim = kHidden / kHeads;
  GptConfig config = kConfig;
  config.heads = kHeads;
  Part full(config, 1, 1);
  config.kv_heads = kKeyHeads;
  Part grouped(config, 1, 1);
  constexpr std::size_t kFullWidth = 3 * kHidden, kGroupedWidth = kHidden + 2 * kKeyHeads * kDim;
  // The column of [q | k | v] on two key/value heads that a column of the full one is equal to.
  const auto shared = [](std::size_t column) {
    if (column < kHidden) return column;
    const std::size_t of_values = (column - kHidden) / kHidden, head = (column % kHidden) / kDim;
    return kHidden + (of_values * kKeyHeads + head / (kHeads / kKeyHeads)) * kDim + column % kDim;
  };
  const std::string names[] = {"h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias"};
  for (const std::string& name : names) {
    std::vector<double>&all = full.memory->weights().at(name), &few = grouped.memory->weights().at(name);
    ASSERT_EQ(few.size() * kFullWidth, all.size() * kGroupedWidth);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = few[i / kFullWidth * kGroupedWidth + shared(i % kFullWidth)];
  }
  EXPECT_NEAR(full.Objective(), grouped.Objective(), 1e-12);
  EXPECT_EQ(full.out, grouped.out);
  for (Part* part : {&full, &grouped}) part->stage->Backward(part->context, kSlots, part->Dout(), part->Din());
  for (std::size_t i = 0; i < full.din.size(); ++i) EXPECT_NEAR(full.din[i], grouped.din[i], 1e-12);
  for (const std::string& name : names) {
    const std::vector<double>&all = full.memory->gradients().at(name), &few = grouped.memory->gradients().at(name);
    std::vector<double> sums(few.size());
    for (std::size_t i = 0; i < all.size(); ++i) sums[i / kFullWidth * kGroupedWidth + shared(i % kFullWidth)] += all[i];
    for (std::size_t i = 0; i < few.size(); ++i) EXPECT_NEAR(sums[i], few[i], 1e-12) << name << " element " << i;
  }
}

// A sample's masks follow its index in the global batch, whatever micro-batch it is in.
TEST(Gpt, DropoutFollowsTheGlobalSample) {
  Part part(kConfig, 1, 2), moved(kConfig, 1, 2), plain(kConfig, 1, 2);
  // Sample 1 of `part` is sample 0 of `moved`, one further on.
  const std::size_t sample = part.out.size() / kSamples;
  auto* x = static_cast<double*>(part.stage->input(kSlots));
  std::copy(x + sample, x + 2 * sample, static_cast<double*>(moved.stage->input(kSlots)));
  moved.context.samples.begin = kFirstSample + 1;
  part.Objective();
  moved.Objective();
  plain.context.training = false;
  plain.Objective();
  for (std::size_t i = 0; i < sample; ++i) EXPECT_EQ(part.out[sample + i], moved.out[i]) << i;
  EXPECT_NE(part.out, plain.out);
  part.context.step += 1;
  const std::vector<double> before = part.out;
  part.Objective();
  EXPECT_NE(part.out, before);
}

TEST(Gpt, EvaluationHasNoDropoutAndGivesLogits) {
  GptConfig without = kConfig;
  without.dropout = 0;
  Part part(kConfig, 0, 6), plain(without, 0, 6);
  std::vector<double> logits(static_cast<std::size_t>(kSamples * kConfig.context * kConfig.vocab));
  part.context.training = false;
  part.context.logits = {logits.data(), DType::kF64, {kSamples, kConfig.context, kConfig.vocab}};
  EXPECT_EQ(part.Objective(), plain.Objective());
  // The loss again, from the logits.
  double loss = 0;
  for (std::int64_t row = 0; row < kSamples * kConfig.context; ++row) {
    const std::int32_t label = static_cast<std::int32_t*>(part.stage->labels(kSlots))[row];
    if (label < 0) continue;
    double sum = 0;
    for (std::int64_t v = 0; v < kConfig.vocab; ++v) sum += std::exp(logits[static_cast<std::size_t>(row * kConfig.vocab + v)]);
    loss += std::log(sum) - logits[static_cast<std::size_t>(row * kConfig.vocab + label)];
  }
  EXPECT_NEAR(loss * part.context.gradient_scale, part.Objective(), 1e-12);
}

// The table of docs/numerics.md.
TEST(Gpt, ParametersAreThoseOfTheContract) {
  for (const bool tied : {false, true}) {
    GptConfig config = kConfig;
    config.tied = tied;
    const std::int64_t C = config.hidden, F = config.ffn, T = config.context, V = config.vocab, L = config.layers;
    const Part part(config, 0, 6);
    std::set<std::string> names;
    std::int64_t elements = 0;
    for (const ParameterSpec& spec : part.stage->parameters()) {
      const bool matrix = spec.shape.rank() == 2;
      EXPECT_EQ(spec.decay, matrix) << spec.name;
      EXPECT_EQ(spec.initial, matrix ? Initial::kNormal : spec.name.ends_with(".bias") ? Initial::kZero : Initial::kOne) << spec.name;
      const bool residual = spec.name.ends_with("c_proj.weight");
      const double std = residual ? 0.3 / std::sqrt(2.0 * static_cast<double>(L)) : 0.3;
      EXPECT_DOUBLE_EQ(spec.std, matrix ? std : 0.0) << spec.name;
      if (names.insert(spec.name).second) elements += spec.shape.elements();
    }
    EXPECT_EQ(names.size(), 4u + 12 * static_cast<std::size_t>(L) + (tied ? 0 : 1));
    EXPECT_EQ(elements, (tied ? 1 : 2) * V * C + T * C + 2 * C + L * (4 * C + C * 3 * C + 3 * C + C * C + C + C * F + F + F * C + C));
  }
}

TEST(Gpt, ALlamasParametersAreThoseOfTheContract) {
  GptConfig config = kConfig;
  config.family = GptFamily::kLlama;
  config.position = PositionEncoding::kRotary;
  config.kv_heads = 1;
  const std::int64_t C = config.hidden, F = config.ffn, V = config.vocab, L = config.layers, kv = C / config.heads;
  const Part part(config, 0, 6);
  std::int64_t elements = 0;
  for (const ParameterSpec& spec : part.stage->parameters()) {
    EXPECT_EQ(spec.decay, spec.shape.rank() == 2) << spec.name;
    EXPECT_EQ(spec.initial, spec.decay ? Initial::kNormal : Initial::kOne) << spec.name;
    elements += spec.shape.elements();
  }
  EXPECT_EQ(part.stage->parameters().size(), 3u + 6 * static_cast<std::size_t>(L));
  EXPECT_EQ(elements, 2 * V * C + C + L * (2 * C + C * (C + 2 * kv) + C * C + C * 2 * F + F * C));
}

// Twelve C² of a block's matrices (F = 4 C), the head, and the two attention products, of which the causal mask leaves about half.
TEST(Gpt, FlopsAreThoseOfTheMatrixProducts) {
  GptConfig config = kConfig;
  config.ffn = 4 * config.hidden;
  const Part part(config, 0, 6);
  const auto C = static_cast<double>(config.hidden), T = static_cast<double>(config.context), L = static_cast<double>(config.layers);
  const double rows = static_cast<double>(kSamples) * T;
  const double matrices = 2 * rows * (L * 12 * C * C + C * static_cast<double>(config.vocab)), all_pairs = L * 4 * rows * T * C;
  EXPECT_GT(part.stage->forward_flops(), matrices + 0.4 * all_pairs);
  EXPECT_LE(part.stage->forward_flops(), matrices + all_pairs);
}

TEST(Gpt, SizesThatDoNotFitAreRefusedWithNumbers) {
  GptConfig config = kConfig;
  config.hidden = 9;
  EXPECT_EQ(Validate(config).message(), "model.hidden 9 does not divide into model.heads 2; use hidden 10 or other heads");
  config = kConfig;
  config.kv_heads = 3;
  EXPECT_EQ(Validate(config).message(), "model.kv_heads 3 does not divide model.heads 2; use 2");
  config = kConfig;
  config.family = GptFamily::kLlama;
  EXPECT_EQ(Validate(config).message(),
            "a Llama has rotary positions, not learned ones; use model.position = rotary, or a model of kind gpt");
  config = kConfig;
  config.norm_eps = 0;
  EXPECT_EQ(Validate(config).message(), "model.norm_eps 0 must be a number above 0, as 1e-5");
  config = kConfig;
  config.dropout = 1;
  EXPECT_EQ(Validate(config).code(), absl::StatusCode::kInvalidArgument);
  config = kConfig;
  config.layers = 0;
  EXPECT_EQ(Validate(config).code(), absl::StatusCode::kInvalidArgument);
  const std::vector<TensorSpec> long_tokens = {{DType::kI32, {1, kConfig.context + 1}}};
  const Status status = LayerStage::Create(GptLayers(kConfig), long_tokens, {.compute = DType::kF64}).status();
  EXPECT_EQ(status.message(), "embedding: sequences of 7 tokens do not fit model.context 6");
}

}  // namespace
}  // namespace lycia
