// A Hugging Face file of a Llama gives Hugging Face's logits: what PyTorch's LlamaForCausalLM made of tensors with its names
// (tests/golden/llama_full.json), through the trainer's loss on one rank and on grids, and through the generator's greedy tokens.
#include "launch/llama_files.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/generator.h"
#include "launch/model_weights.h"
#include "runtime/comm/transports.h"
#include "runtime/io/file.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

const Json& Golden() {
  static const Json* const golden = [] {
    std::ifstream file("tests/golden/llama_full.json");
    return new Json(Json::parse(file));
  }();
  return *golden;
}

GptConfig GoldenModel() {
  const Json& c = Golden()["config"];
  return {.family = GptFamily::kLlama,
          .layers = c["blocks"],
          .heads = c["heads"],
          .kv_heads = c["kv_heads"],
          .hidden = c["width"],
          .context = c["context"],
          .vocab = c["vocabulary"],
          .ffn = c["ffn"],
          .tied = c["tied"],
          .norm_eps = c["norm_eps"],
          .position = PositionEncoding::kRotary,
          .rope_base = c["rope_base"]};
}

// model.safetensors with the golden tensors, or with those that `change` makes of them, stored as dtype.
struct File {
  std::string name;
  Shape shape;
  std::vector<float> values;
};
void WriteModel(
    const std::string& path, const std::function<void(std::vector<File>&)>& change = [](auto&) {}, DType dtype = DType::kF32) {
  std::vector<File> files;
  for (const auto& [name, tensor] : Golden()["hugging_face"]["tensors"].items()) {
    const Json& shape = tensor["shape"];
    files.push_back({name, shape.size() == 1 ? Shape{shape[0]} : Shape{shape[0], shape[1]}, tensor["value"].get<std::vector<float>>()});
  }
  change(files);
  std::vector<TensorSource> sources;
  std::vector<std::string> bytes(files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    DispatchAnyStored(dtype, [&]<typename T>() {
      for (const float value : files[i].values) {
        const T stored(value);
        bytes[i].append(reinterpret_cast<const char*>(&stored), sizeof(stored));
      }
    });
    sources.push_back({.name = files[i].name, .spec = {dtype, files[i].shape}, .data = bytes[i].data(), .read = nullptr});
  }
  const Status written = WriteSafetensors(path, sources).status();
  ASSERT_TRUE(written.ok()) << written;
}

// The golden tokens; a label is the token after, the last of a sequence none.
class GoldenTokens final : public BatchSource {
 public:
  void Load(std::int64_t, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override {
    const std::int64_t length = GoldenModel().context;
    for (std::int64_t i = 0; i < count * length; ++i) {
      const Json& sample = Golden()["hugging_face"]["tokens"][static_cast<std::size_t>(first + i / length)];
      const auto t = static_cast<std::size_t>(i % length);
      if (inputs != nullptr) static_cast<std::int32_t*>(inputs)[i] = sample[t];
      if (labels != nullptr) labels[i] = t + 1 < sample.size() ? sample[t + 1].get<std::int32_t>() : -1;
    }
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count * (GoldenModel().context - 1); }
};

// Summed over the labels, from PyTorch's logits.
double GoldenLoss() {
  const std::vector<double> logits = Golden()["hugging_face"]["logits"];
  const auto V = static_cast<std::size_t>(GoldenModel().vocab), T = static_cast<std::size_t>(GoldenModel().context);
  const std::size_t samples = logits.size() / V / T;
  std::vector<std::int32_t> labels(samples * T);
  GoldenTokens().Load(0, 0, static_cast<std::int64_t>(samples), nullptr, labels.data());
  double loss = 0;
  for (std::size_t row = 0; row < labels.size(); ++row) {
    if (labels[row] < 0) continue;
    double sum = 0;
    for (std::size_t v = 0; v < V; ++v) sum += std::exp(logits[row * V + v]);
    loss += std::log(sum) - logits[row * V + static_cast<std::size_t>(labels[row])];
  }
  return loss;
}

// The summed loss of the golden samples on a grid, with weights from `path`.
StatusOr<double> LossOn(const std::string& path, int x, int y, DType precision) {
  double loss = 0;
  const Status run = RunThreadRanks(x * y, [&](Communicator& world) -> Status {
    const TrainerOptions options{.model = GoldenModel(),
                                 .precision = precision,
                                 .schedule = "gpipe",
                                 .x = x,
                                 .y = y,
                                 .micro_batches = static_cast<std::int64_t>(Golden()["hugging_face"]["tokens"].size())};
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(options, world));
    LYCIA_RETURN_IF_ERROR(LoadModelWeights(path, *trainer));
    LYCIA_RETURN_IF_ERROR(trainer->PublishWeights());
    LYCIA_ASSIGN_OR_RETURN(const Trainer::Evaluation sum, trainer->Evaluate(GoldenTokens(), 1));
    if (world.rank() == 0) loss = sum.loss;
    return OkStatus();
  });
  LYCIA_RETURN_IF_ERROR(run);
  return loss;
}

TEST(LlamaFiles, HuggingFacesWeightsGiveItsLoss) {
  const TempDirectory folder;
  WriteModel(folder / "model.safetensors");
  for (const auto& [x, y] : {std::pair{1, 1}, {2, 1}, {1, 2}}) {
    for (const DType precision : {DType::kF64, DType::kF32, DType::kBF16}) {
      const StatusOr<double> loss = LossOn(folder / "model.safetensors", x, y, precision);
      ASSERT_TRUE(loss.ok()) << loss.status();
      EXPECT_NEAR(*loss, GoldenLoss(), (precision == DType::kBF16 ? 2e-2 : 3e-6) * GoldenLoss())
          << x << " x " << y << " " << Name(precision);
    }
  }
}

// Numbers that the narrow types hold exactly are read as those of an f32 file, to the bit: also f16's below 2^-14.
TEST(LlamaFiles, NarrowFilesHoldTheSameNumbers) {
  const TempDirectory folder;
  for (const auto& [dtype, bits] : {std::pair{DType::kF16, 10}, {DType::kBF16, 7}}) {
    const auto exact = [bits = bits](std::vector<File>& files) {
      for (File& file : files) {
        for (float& value : file.values) {
          int exponent;  // of a value in [1/2, 1) times 2^exponent
          std::frexp(value, &exponent);
          const int last = std::max(exponent - bits - 1, -24);  // the place of the last bit
          value = std::ldexp(std::nearbyint(std::ldexp(value, -last)), last);
        }
        file.values[0] = std::copysign(0x1p-20F, file.values[0]);
      }
    };
    WriteModel(folder / "wide.safetensors", exact);
    WriteModel(folder / "narrow.safetensors", exact, dtype);
    const StatusOr<double> wide = LossOn(folder / "wide.safetensors", 1, 1, DType::kF64),
                           narrow = LossOn(folder / "narrow.safetensors", 1, 1, DType::kF64);
    ASSERT_TRUE(wide.ok() && narrow.ok()) << wide.status() << narrow.status();
    EXPECT_EQ(*narrow, *wide) << Name(dtype);
    EXPECT_NE(*wide, GoldenLoss()) << Name(dtype);
  }
}

// Every tensor and half of one: were two of them exchanged, or rows taken for columns, the loss above would differ.
TEST(LlamaFiles, EveryTensorMatters) {
  const TempDirectory folder;
  const std::size_t count = Golden()["hugging_face"]["tensors"].size();
  EXPECT_EQ(count, 3u + 9 * 2);
  for (std::size_t i = 0; i < count; ++i) {
    std::string name;
    WriteModel(folder / "model.safetensors", [&](std::vector<File>& files) {
      name = files[i].name;
      std::reverse(files[i].values.begin(), files[i].values.end());
      for (float& value : files[i].values) value *= 1.5F;
    });
    const StatusOr<double> loss = LossOn(folder / "model.safetensors", 1, 1, DType::kF64);
    ASSERT_TRUE(loss.ok()) << loss.status();
    EXPECT_GT(std::abs(*loss - GoldenLoss()), 1e-3) << name;
  }
}

TEST(LlamaFiles, GreedyTokensAreHuggingFaces) {
  const TempDirectory folder;
  WriteModel(folder / "model.safetensors");
  auto generator = Generator::Load(folder / "model.safetensors", GoldenModel());
  ASSERT_TRUE(generator.ok()) << generator.status();
  const std::vector<std::int32_t> expected = Golden()["hugging_face"]["greedy"];
  const auto tokens =
      (*generator)
          ->Generate(Golden()["hugging_face"]["tokens"][0], {.tokens = static_cast<std::int64_t>(expected.size()), .temperature = 0});
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(*tokens, expected);
}

TEST(LlamaFiles, WhatDoesNotFitIsRefused) {
  const TempDirectory folder;
  const std::string path = folder / "model.safetensors";
  WriteModel(path, [](std::vector<File>& files) {
    std::erase_if(files, [](const File& file) { return file.name == "model.layers.1.mlp.up_proj.weight"; });
  });
  EXPECT_THAT(std::string(LossOn(path, 1, 1, DType::kF32).status().message()), HasSubstr("no tensor model.layers.1.mlp.up_proj.weight"));
  WriteModel(path);
  GptConfig tied = GoldenModel(), other = GoldenModel();
  tied.tied = true;
  other.kv_heads = 2;
  EXPECT_THAT(std::string(Generator::Load(path, tied).status().message()), HasSubstr("set model.tied = false"));
  EXPECT_THAT(std::string(Generator::Load(path, other).status().message()),
              AllOf(HasSubstr("self_attn.k_proj.weight has shape [4, 8]"), HasSubstr("needs [8, 8]")));
  // Shapes alone would not tell; the file beside the weights does.
  const Status written = WriteFileAtomically(folder / "config.json", R"({"model_type": "llama", "rope_theta": 30, "rms_norm_eps": 0.02})");
  ASSERT_TRUE(written.ok()) << written;
  EXPECT_THAT(std::string(Generator::Load(path, GoldenModel()).status().message()),
              AllOf(HasSubstr("config.json"), HasSubstr("rms_norm_eps = 0.02"), HasSubstr("set model.norm_eps = 0.02")));
}

TEST(LlamaConfig, OursIsOurs) {
  const Status ours = CheckLlamaConfig(LlamaConfigJson(GoldenModel()), GoldenModel(), "config.json");
  EXPECT_TRUE(ours.ok()) << ours;
  const Json parsed = Json::parse(LlamaConfigJson(GoldenModel()));
  EXPECT_EQ(parsed["num_key_value_heads"], 1);
  EXPECT_EQ(parsed["rope_theta"], 30.0);
  EXPECT_EQ(parsed["intermediate_size"], 7);
  EXPECT_EQ(parsed["architectures"][0], "LlamaForCausalLM");
}

TEST(LlamaConfig, SaysWhichKeyDiffers) {
  GptConfig model = GoldenModel();
  model.rope_base = 10000;
  model.norm_eps = 1e-6;
  const auto problem = [&](const char* json) { return std::string(CheckLlamaConfig(json, model, "config.json").message()); };
  EXPECT_EQ(problem("{}"), "");  // Hugging Face's own defaults
  EXPECT_THAT(problem(R"({"num_attention_heads": 4})"), AllOf(HasSubstr("num_attention_heads = 4"), HasSubstr("set model.heads = 4")));
  EXPECT_THAT(problem(R"({"num_key_value_heads": 2})"), HasSubstr("set model.kv_heads = 2"));
  EXPECT_THAT(problem(R"({"num_hidden_layers": 3})"), HasSubstr("set model.layers = 3"));
  EXPECT_THAT(problem(R"({"rope_theta": 500000})"), HasSubstr("set model.rope_base = 500000"));
  EXPECT_THAT(problem(R"({"rms_norm_eps": 1e-5})"), HasSubstr("set model.norm_eps = 1e-05"));
  EXPECT_THAT(problem(R"({"rope_scaling": {"rope_type": "llama3"}})"), HasSubstr("rope_scaling"));
  EXPECT_EQ(problem(R"({"rope_scaling": null})"), "");
  EXPECT_EQ(problem(R"({"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}})"), "");
  EXPECT_THAT(problem(R"({"rope_parameters": {"rope_theta": 500000.0}})"), HasSubstr("set model.rope_base = 500000"));
  EXPECT_THAT(problem(R"({"rope_parameters": {"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8}})"), HasSubstr("rope_type"));
  EXPECT_THAT(problem(R"({"attention_bias": true})"), HasSubstr("no biases"));
  EXPECT_THAT(problem(R"({"hidden_act": "gelu"})"), HasSubstr("silu"));
  EXPECT_THAT(problem(R"({"head_dim": 128})"), HasSubstr("heads of 128 features"));
  EXPECT_THAT(problem(R"({"model_type": "mistral"})"), HasSubstr("type mistral"));
  EXPECT_THAT(problem(R"({"num_hidden_layers": "two"})"), HasSubstr("no integer"));
  EXPECT_THAT(problem("{"), HasSubstr("config.json"));
  EXPECT_THAT(problem("[]"), HasSubstr("config.json is no JSON object"));
}

}  // namespace
}  // namespace lycia
