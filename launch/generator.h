// Generator: writes text with a trained model, on one rank.
#ifndef LYCIA_LAUNCH_GENERATOR_H_
#define LYCIA_LAUNCH_GENERATOR_H_

#include <memory>
#include <string>
#include <vector>

#include "models/gpt.h"
#include "parallel/optimizer/parameter_store.h"
#include "parallel/pipeline/layer_stage.h"
#include "runtime/io/safetensors.h"

namespace lycia {

struct SamplingOptions {
  std::int64_t tokens = 200;  // to write
  double temperature = 0.8;   // 0: always the most likely
  std::int64_t top_k = 0;     // only among the k most likely; 0: all
  std::uint64_t seed = 1;     // token i is drawn with RandomStream(seed, "sample", 0).Uniform(i)
};

class Generator {
 public:
  // `path`: what SafetensorsModel::Open takes. InvalidArgument where its tensors do not fit the configuration.
  static StatusOr<std::unique_ptr<Generator>> Load(const std::string& path, const GptConfig& config);

  // Tokens that continue the prompt (without it). The model sees at most its last `context` tokens. InvalidArgument: a prompt that is empty
  // or has a token outside the vocabulary.
  StatusOr<std::vector<std::int32_t>> Generate(const std::vector<std::int32_t>& prompt, const SamplingOptions& options);

 private:
  explicit Generator(const GptConfig& config) : config_(config) {}
  Status Prepare(const SafetensorsModel& model);
  std::int32_t Draw(const float* logits, double uniform, const SamplingOptions& options);

  GptConfig config_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<LayerStage> stage_;
  std::unique_ptr<ParameterGroups> groups_;
  std::unique_ptr<ParameterStore> store_;
  Arena arena_;
  Tensor logits_;  // [1, context, V]
  std::vector<std::pair<float, std::int32_t>> ranked_;
};

// The model that a configuration describes.
struct ModelConfig;
GptConfig GptConfigOf(const ModelConfig& config);

// Bytes as tokens, and back.
std::vector<std::int32_t> BytesToTokens(const std::string& text);
std::string TokensToBytes(const std::vector<std::int32_t>& tokens);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_GENERATOR_H_
