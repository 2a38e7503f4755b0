// Layers that compute equal or alike rows once.
//
// What would a wrong implementation still pass? A run whose rows never repeat, or repeat everywhere alike; one where the dense way is taken
// after all. So rows repeat unevenly, it is counted that they do, and what exact reuse computes is compared bit by bit with the dense
// layers. Means of alike rows have no dense equal: with the clusters held fixed their gradient is the derivative, which is checked.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reuse/build_index_map.h"
#include "models/gpt.h"
#include "models/layers/conv_layer.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr std::int64_t kSamples = 4, kFirstSample = 3;
constexpr StageSlots kSlots{.stash = 0, .input = 0, .handoff = 0};

double Value(const std::string& what, std::int64_t i) { return RandomStream(5, what, 0).Normal(static_cast<std::uint64_t>(i)); }

struct Options {
  bool reuse = true;  // false: the same stage, dense
  bool probe = false;
  ReusePolicy policy = ReusePolicy::kExact;
  double width = 0;
  double noise = 0;  // beside rows that repeat
  Recompute recompute = Recompute::kNone;
  bool split = false;
};

// Layers as a stage of kSamples, with weights, input and the gradient of the output at random. Rows of the input repeat.
template <typename Number>
struct Part {
  Part(std::vector<std::unique_ptr<Layer>> layers, const TensorSpec& in, const Options& o) : options(o) {
    stage = *LayerStage::Create(
        std::move(layers), {in},
        {.compute = DTypeOf<Number>::value, .recompute = o.recompute, .full_backward = !o.split, .split_backward = o.split});
    for (const ReuseSpec& spec : stage->reuses()) AddSlot(spec);
    memory = std::make_unique<StageMemoryOf<Number>>(*stage, 1, 0, [this](const std::string& name) { return &slots.at(name); });
    for (auto& [name, values] : memory->weights()) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<Number>(0.5 * Value(name, static_cast<std::int64_t>(i)) + (name.ends_with(".weight") ? 0.1 : 0.0));
      }
    }
    FillInput(in);
    for (std::int64_t i = 0; stage->reads_labels() && i < in.elements(); ++i) {
      static_cast<std::int32_t*>(stage->labels(kSlots))[i] = static_cast<std::int32_t>(i * 3 % 17) - 1;
    }
    if (!stage->reads_labels()) {
      out.resize(static_cast<std::size_t>(stage->outputs()[0].elements()));
      for (std::size_t i = 0; i < out.size(); ++i) dout.push_back(static_cast<Number>(Value("dout", static_cast<std::int64_t>(i))));
    }
    din.resize(in.dtype == DType::kI32 ? 0 : static_cast<std::size_t>(in.elements()));
    context = {.stream = stream.get(), .seed = 9, .step = 4, .samples = {kFirstSample, kSamples}, .gradient_scale = 0.125};
  }

  void AddSlot(const ReuseSpec& spec) {
    ReuseSlot& slot = slots[spec.name];
    slot.measures = &measures[spec.name];
    slot.use = options.reuse ? ReuseUse::kReuse : ReuseUse::kDense;
    slot.probe = options.probe;
    slot.rule = {.policy = options.policy, .delta = options.width, .width = options.width};
    if (options.policy != ReusePolicy::kLsh) return;
    std::vector<Number>& a = projections[spec.name];
    std::vector<double>& b = shifts[spec.name];
    a.resize(static_cast<std::size_t>(kProjections * spec.depth)), b.resize(kProjections);
    const Tensor projection{a.data(), DTypeOf<Number>::value, {kProjections, spec.depth}}, shift{b.data(), DType::kF64, {kProjections}};
    MakeProjections(*stream, {.seed = 3, .projections = projection, .shifts = shift});
    slot.rule.projections = AsMatrix(projection);
    slot.rule.shifts = shift;
  }

  // Of images: blocks of 4 x 4 pixels that are one of three. Of rows: one of five, some more often.
  void FillInput(const TensorSpec& in) {
    const std::int64_t C = in.shape.dim(-1);
    for (std::int64_t i = 0; i < in.elements(); ++i) {
      const std::int64_t row = in.dtype == DType::kI32 ? i : i / C;
      std::int64_t which = row * row % 5;
      if (in.shape.rank() == 4) which = (row / in.shape.dim(2) / 4 + row % in.shape.dim(2) / 4 * 2) % 3;
      if (in.dtype == DType::kI32) {
        static_cast<std::int32_t*>(stage->input(kSlots))[i] = static_cast<std::int32_t>(which);
      } else {
        static_cast<Number*>(stage->input(kSlots))[i] =
            static_cast<Number>(Value("x", which * C + i % C) + options.noise * Value("noise", i));
      }
    }
  }

  double Objective() {
    losses.assign(kSamples, 0);
    context.sample_losses = losses.data();
    stage->Forward(context, kSlots, out.empty() ? nullptr : out.data());
    memory->Poison(Area::kTransient);
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(out[i]) * static_cast<double>(dout[i]);
    for (const double loss : losses) sum += out.empty() ? loss * context.gradient_scale : 0.0;
    return sum;
  }
  void Backward() {
    const void* from = dout.empty() ? nullptr : dout.data();
    void* to = din.empty() ? nullptr : din.data();
    if (!options.split) return stage->Backward(context, kSlots, from, to);
    stage->BackwardInput(context, kSlots, from, to);
    memory->Poison(Area::kTransient);
    stage->BackwardWeight(context, kSlots);
  }
  // The share of rows that were left, of all slots.
  double UniqueRatio() const {
    double rows = 0, clusters = 0;
    for (const auto& [name, m] : measures) rows += m.rows, clusters += m.clusters;
    return clusters / rows;
  }

  Options options;
  std::unique_ptr<Device> device = NewCpuDevice();
  std::unique_ptr<Stream> stream = *device->NewStream();
  std::map<std::string, ReuseSlot> slots;
  std::map<std::string, ReuseMeasures> measures;
  std::map<std::string, std::vector<Number>> projections;
  std::map<std::string, std::vector<double>> shifts;
  std::unique_ptr<LayerStage> stage;
  std::unique_ptr<StageMemoryOf<Number>> memory;
  StageContext context;
  std::vector<Number> out, dout, din;
  std::vector<double> losses;
};

GptConfig Config(bool rotary, double dropout, std::int64_t kv_heads, ReusePolicy policy) {
  return {.layers = 2,
          .heads = 2,
          .kv_heads = kv_heads,
          .hidden = 8,
          .context = 6,
          .vocab = 17,
          .ffn = 20,
          .tied = false,
          .dropout = dropout,
          .init_std = 0.3,
          .position = rotary ? PositionEncoding::kRotary : PositionEncoding::kLearned,
          .rope_base = 20,
          .reuse = {.on = true, .policy = policy}};
}

// All layers, or those from `first` on.
std::vector<std::unique_ptr<Layer>> Layers(const GptConfig& config, int first, int count) {
  std::vector<std::unique_ptr<Layer>> all = GptLayers(config), layers;
  for (int i = first; i < first + count; ++i) layers.push_back(std::move(all[static_cast<std::size_t>(i)]));
  return layers;
}

std::vector<std::unique_ptr<Layer>> Convolutions(ReusePolicy policy) {
  const ImageModelConfig config{.reuse = {.on = true, .policy = policy}};
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<ConvLayer>(
      config, ConvUnit::Options{.name = "conv1", .filters = 5, .filter = 3, .bias = true, .reuse = config.reuse}));
  layers.push_back(std::make_unique<ConvLayer>(
      config,
      ConvUnit::Options{.name = "conv2", .filters = 4, .filter = 3, .stride = 2, .bias = true, .relu = false, .reuse = config.reuse}));
  return layers;
}
constexpr std::int64_t kHeight = 12, kWidth = 9, kChannels = 3;

template <typename Number>
bool SameBits(const std::vector<Number>& a, const std::vector<Number>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Number)) == 0);
}

template <typename A, typename B>
void ExpectNear(const A& actual, const B& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double norm = 0, error = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    norm = std::max(norm, std::abs(static_cast<double>(expected[i])));
    error = std::max(error, std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i])));
    EXPECT_TRUE(std::isfinite(static_cast<double>(actual[i]))) << what;
  }
  EXPECT_LE(error, tolerance * norm) << what;
}

// Exact reuse beside the dense layers; f32 and bf16 bit by bit, f64 but for the BLAS, which computes it.
template <typename Number>
void ExpectDense(const std::function<std::vector<std::unique_ptr<Layer>>()>& layers, const TensorSpec& in, Options options) {
  Part<Number> reused(layers(), in, options);
  options.reuse = false;
  Part<Number> dense(layers(), in, options);
  for (Part<Number>* part : {&reused, &dense}) {
    part->Objective();
    part->Backward();
    ASSERT_TRUE(part->stream->Synchronize().ok());
    EXPECT_TRUE(part->memory->BordersAreIntact());
  }
  EXPECT_LT(reused.UniqueRatio(), 0.9);
  constexpr bool kF64 = std::is_same_v<Number, double>, kBF16 = std::is_same_v<Number, BFloat16>;
  if (kF64) {
    ExpectNear(reused.out, dense.out, 1e-13, "out");
    ExpectNear(reused.losses, dense.losses, 1e-13, "losses");
  } else {
    EXPECT_TRUE(SameBits(reused.out, dense.out));
    EXPECT_TRUE(SameBits(reused.losses, dense.losses));
  }
  const double tolerance = kF64 ? 1e-12 : kBF16 ? 0.05 : 2e-5;
  ExpectNear(reused.din, dense.din, tolerance, "din");
  ASSERT_FALSE(dense.memory->gradients().empty());
  for (const auto& [name, gradient] : dense.memory->gradients()) {
    ExpectNear(reused.memory->gradients().at(name), gradient, tolerance, "gradient of " + name);
  }
}

template <typename Number>
void ExpectGptDense(const GptConfig& config, const Options& options) {
  ExpectDense<Number>([&] { return Layers(config, 0, 6); }, {DType::kI32, {kSamples, config.context}}, options);
}

TEST(ReusedLayers, ExactReuseOfAGptEqualsTheDenseOne) {
  for (const double dropout : {0.0, 0.2}) {
    for (const std::int64_t kv_heads : {0, 1}) {
      for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
        for (const bool split : {false, true}) {
          // With dropout behind the embedding equal tokens have different rows: layers get rows that repeat, one by one.
          const GptConfig config = Config(/*rotary=*/true, dropout, kv_heads, ReusePolicy::kExact);
          const Options options{.recompute = recompute, .split = split};
          SCOPED_TRACE(::testing::Message() << "dropout " << dropout << " key heads " << kv_heads << " recompute "
                                            << static_cast<int>(recompute) << " split " << split);
          if (dropout == 0) {
            ExpectGptDense<double>(config, options);
            ExpectGptDense<float>(config, options);
            ExpectGptDense<BFloat16>(config, options);
          }
          for (const int layer : {1, 2, 3}) {  // attention, MLP, attention of the next block
            const auto one = [&] { return Layers(config, layer, 1); };
            const auto in = [&](DType dtype) { return TensorSpec{dtype, {kSamples, config.context, config.hidden}}; };
            if (layer == 1 && dropout == 0) continue;  // its gradient of equal rows is a mean: only their sum counts
            ExpectDense<double>(one, in(DType::kF64), options);
            ExpectDense<float>(one, in(DType::kF32), options);
            ExpectDense<BFloat16>(one, in(DType::kBF16), options);
          }
        }
      }
    }
  }
}

TEST(ReusedLayers, ExactReuseOfConvolutionsEqualsTheDenseOnes) {
  for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
    for (const bool split : {false, true}) {
      const Options options{.probe = split, .recompute = recompute, .split = split};
      const auto layers = [] { return Convolutions(ReusePolicy::kExact); };
      const auto in = [](DType dtype) { return TensorSpec{dtype, {kSamples, kHeight, kWidth, kChannels}}; };
      ExpectDense<double>(layers, in(DType::kF64), options);
      ExpectDense<float>(layers, in(DType::kF32), options);
      ExpectDense<BFloat16>(layers, in(DType::kBF16), options);
    }
  }
}

// What the step did with each row: rows, clusters and error say whether a partition has changed.
std::map<std::string, std::vector<double>> Clusters(Part<double>& part) {
  std::map<std::string, std::vector<double>> all;
  for (auto& [name, m] : part.measures) {
    all[name] = {m.rows, m.clusters};
    m = {};
  }
  return all;
}

// A recomputed forward finds the same clusters; they are counted when they are first found.
TEST(ReusedLayers, ARecomputedForwardCountsNothingAgain) {
  for (const ReusePolicy policy : {ReusePolicy::kExact, ReusePolicy::kQuantized}) {
    const GptConfig config = Config(/*rotary=*/true, 0, 0, policy);
    const TensorSpec rows{DType::kF64, {kSamples, config.context, config.hidden}},
        images{DType::kF64, {kSamples, kHeight, kWidth, kChannels}};
    for (const bool of_images : {false, true}) {
      for (const bool split : {false, true}) {
        std::map<std::string, ReuseMeasures> once;
        for (const Recompute recompute : {Recompute::kNone, Recompute::kLayers, Recompute::kStage}) {
          Part<double> part(of_images ? Convolutions(policy) : Layers(config, 1, 3), of_images ? images : rows,
                            {.policy = policy,
                             .width = policy == ReusePolicy::kExact ? 0.0 : 0.5,
                             .noise = policy == ReusePolicy::kExact ? 0.0 : 0.01,
                             .recompute = recompute,
                             .split = split});
          part.Objective();
          part.Backward();
          if (once.empty()) once = part.measures;
          for (const ReuseSpec& spec : part.stage->reuses()) {
            SCOPED_TRACE(::testing::Message() << spec.name << " recompute " << static_cast<int>(recompute) << " split " << split);
            const ReuseMeasures &seen = part.measures.at(spec.name), &truth = once.at(spec.name);
            EXPECT_EQ(seen.rows, static_cast<double>(spec.rows));
            EXPECT_EQ(seen.clusters, truth.clusters);
            EXPECT_EQ(seen.squares, truth.squares);
            EXPECT_EQ(seen.error_squares, truth.error_squares);
          }
        }
      }
    }
  }
}

// Central differences so small that no row changes its cluster.
void ExpectDerivatives(Part<double>& part, bool input) {
  part.Objective();
  const auto clusters = Clusters(part);
  part.Backward();
  Clusters(part);
  const std::map<std::string, std::vector<double>> gradients = part.memory->gradients();
  int checked = 0;
  const auto check = [&](double& variable, double gradient, double scale, const std::string& what) {
    constexpr double kStep = 2e-6;
    const double at = variable;
    variable = at + kStep;
    const double above = part.Objective();
    const bool same = Clusters(part) == clusters;
    variable = at - kStep;
    const double below = part.Objective();
    const bool still = Clusters(part) == clusters;
    variable = at;
    if (!same || !still) return;
    ++checked;
    EXPECT_NEAR((above - below) / (2 * kStep), gradient, 1e-6 * scale) << what;
  };
  const auto largest = [](const std::vector<double>& values) {
    double most = 0.01;
    for (const double value : values) most = std::max(most, std::abs(value));
    return most;
  };
  int all = 0;
  for (auto& [name, weights] : part.memory->weights()) {
    for (std::size_t i = 0; i < weights.size(); i += 1 + weights.size() / 20, ++all) {
      check(weights[i], gradients.at(name)[i], largest(gradients.at(name)), name + " " + std::to_string(i));
    }
  }
  for (std::size_t i = 0; input && i < part.din.size(); i += 5, ++all) {
    check(static_cast<double*>(part.stage->input(kSlots))[i], part.din[i], largest(part.din), "din " + std::to_string(i));
  }
  EXPECT_GE(checked, all * 9 / 10);
}

TEST(ReusedLayers, GradientsOfMeansAreDerivativesWithTheClustersHeldFixed) {
  for (const ReusePolicy policy : {ReusePolicy::kQuantized, ReusePolicy::kLsh}) {
    for (const double dropout : {0.0, 0.2}) {
      for (const int layer : {1, 2, 4}) {
        const GptConfig config = Config(/*rotary=*/layer == 1, dropout, layer == 1 ? 1 : 0, policy);
        const TensorSpec in{DType::kF64, {kSamples, config.context, config.hidden}};
        Part<double> part(Layers(config, layer, 1), in,
                          {.policy = policy, .width = policy == ReusePolicy::kLsh ? 4.0 : 1.0, .noise = 0.02});
        SCOPED_TRACE(::testing::Message() << "policy " << static_cast<int>(policy) << " dropout " << dropout << " layer " << layer);
        ExpectDerivatives(part, /*input=*/true);
        part.Objective();
        EXPECT_LT(part.UniqueRatio(), 0.9);
        EXPECT_GT(part.measures.begin()->second.RelativeError(), 0);
      }
    }
  }
}

// Patches overlap: a pixel has a share in the means of several clusters.
TEST(ReusedLayers, GradientsOfMeansOfPatchesAreDerivativesWithTheClustersHeldFixed) {
  for (const ReusePolicy policy : {ReusePolicy::kQuantized, ReusePolicy::kLsh}) {
    for (const std::size_t layer : {0, 1}) {
      for (const bool split : {false, true}) {
        std::vector<std::unique_ptr<Layer>> one;
        one.push_back(std::move(Convolutions(policy)[layer]));
        Part<double> part(std::move(one), {DType::kF64, {kSamples, kHeight, kWidth, kChannels}},
                          {.policy = policy, .width = policy == ReusePolicy::kLsh ? 4.0 : 1.0, .noise = 0.01, .split = split});
        SCOPED_TRACE(::testing::Message() << "policy " << static_cast<int>(policy) << " layer " << layer << " split " << split);
        ExpectDerivatives(part, /*input=*/true);
        part.Objective();
        EXPECT_LT(part.UniqueRatio(), 0.9);
        EXPECT_GT(part.measures.begin()->second.RelativeError(), 0);
        EXPECT_TRUE(part.memory->BordersAreIntact());
      }
    }
  }
}

// A layer that may take means computes equal rows in a step that is exact: the run's last ones.
TEST(ReusedLayers, AnExactStepOfAnApproximateRunEqualsTheDenseOne) {
  const auto layers = [] { return Convolutions(ReusePolicy::kQuantized); };
  ExpectDense<float>(layers, {DType::kF32, {kSamples, kHeight, kWidth, kChannels}}, {});
}

// The meter is that of means, and comes with them: a step that only counts has none.
TEST(ReusedLayers, MeansOfPatchesAreMeteredWhereTheyAreMade) {
  const TensorSpec in{DType::kF32, {kSamples, kHeight, kWidth, kChannels}};
  const Options options{.policy = ReusePolicy::kQuantized, .width = 0.25, .noise = 0.01};
  Part<float> reused(Convolutions(options.policy), in, options), counted(Convolutions(options.policy), in, options);
  for (auto& [name, slot] : counted.slots) slot.use = ReuseUse::kMeasure;
  reused.Objective(), counted.Objective();
  const ReuseMeasures &means = reused.measures.at("conv1"), &numbers = counted.measures.at("conv1");
  EXPECT_EQ(means.clusters, numbers.clusters);
  EXPECT_GT(means.error_squares, 0);
  EXPECT_EQ(numbers.squares, 0);
  // Steps so small that patches of one colour alone are alike: what is lost is their noise.
  EXPECT_LT(means.RelativeError(), 0.02);
}

// A comparison with the dense gradient changes no result, and is close to 1 where rows are close.
TEST(ReusedLayers, ProbesChangeNothing) {
  struct Case {
    std::function<std::vector<std::unique_ptr<Layer>>()> layers;
    TensorSpec in;
  };
  const GptConfig config = Config(/*rotary=*/true, 0.2, 0, ReusePolicy::kQuantized);
  std::vector<Case> cases = {{[] { return Convolutions(ReusePolicy::kQuantized); }, {DType::kF64, {kSamples, kHeight, kWidth, kChannels}}}};
  for (const int layer : {1, 2}) {
    cases.push_back({[=] { return Layers(config, layer, 1); }, {DType::kF64, {kSamples, config.context, config.hidden}}});
  }
  for (const Case& c : cases) {
    const Options options{.policy = ReusePolicy::kQuantized, .width = 0.5, .noise = 0.01};
    Options probing = options;
    probing.probe = true;
    Part<double> plain(c.layers(), c.in, options), probed(c.layers(), c.in, probing);
    for (Part<double>* part : {&plain, &probed}) part->Objective(), part->Backward();
    EXPECT_TRUE(SameBits(plain.din, probed.din));
    EXPECT_EQ(plain.memory->gradients(), probed.memory->gradients());
    const ReuseMeasures& m = probed.measures.begin()->second;
    EXPECT_GT(m.dense_squares, 0);
    EXPECT_GT(m.Cosine(), 0.99);
    EXPECT_LT(m.Cosine(), 1);
    EXPECT_EQ(plain.measures.begin()->second.dense_squares, 0);
  }
}

}  // namespace
}  // namespace lycia
