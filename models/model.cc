#include "models/model.h"

namespace lycia {

Status Validate(const Model& model) {
  return std::visit([](const auto& config) { return Validate(config); }, model);
}

std::vector<std::unique_ptr<Layer>> LayersOf(const Model& model) {
  if (const auto* gpt = std::get_if<GptConfig>(&model)) return GptLayers(*gpt);
  return ImageModelLayers(std::get<ImageModelConfig>(model));
}

TensorSpec InputOf(const Model& model, std::int64_t samples) {
  if (const auto* gpt = std::get_if<GptConfig>(&model)) return {DType::kI32, {samples, gpt->context}};
  const auto& image = std::get<ImageModelConfig>(model);
  return {DType::kU8, {samples, image.height, image.width, image.channels}};
}

TensorSpec LabelsOf(const Model& model, std::int64_t samples) {
  if (const auto* gpt = std::get_if<GptConfig>(&model)) return {DType::kI32, {samples, gpt->context}};
  return {DType::kI32, {samples, 1}};
}

}  // namespace lycia
