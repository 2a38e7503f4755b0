#include "models/image_model.h"

#include <algorithm>

#include "models/image_parts.h"
#include "models/layers/conv_layer.h"
#include "models/layers/image_head.h"

namespace lycia {
namespace {

// Halvings of the image by the pools of VGG-16.
constexpr int kVggPools = 5;

// The layer of a part.
struct MakeLayer {
  const ImageModelConfig& config;
  std::unique_ptr<Layer> operator()(const ConvUnit::Options& part) const { return std::make_unique<ConvLayer>(config, part); }
  std::unique_ptr<Layer> operator()(const PoolPart& part) const { return std::make_unique<PoolLayer>(part.name, part.window); }
  std::unique_ptr<Layer> operator()(const DenseLayer::Options& part) const { return std::make_unique<DenseLayer>(part); }
  std::unique_ptr<Layer> operator()(const ResidualBlock::Options& part) const { return std::make_unique<ResidualBlock>(part); }
  std::unique_ptr<Layer> operator()(const HeadPart& part) const {
    return std::make_unique<ImageHead>(part.name, part.classes, part.average);
  }
};

}  // namespace

Status Validate(const ImageModelConfig& config) {
  if (config.height < 1 || config.width < 1 || config.channels < 1 || config.channels > kMaxImageChannels) {
    return InvalidArgument("images of ", config.height, " x ", config.width, " x ", config.channels,
                           " cannot be; sizes start at 1, and at most ", kMaxImageChannels, " channels are read");
  }
  if (config.classes < 1) return InvalidArgument("model.classes ", config.classes, " must be at least 1");
  if (config.filters < 1) return InvalidArgument(config.filters, " filters in the first group of blocks; at least 1");
  if (config.norm_samples < 1) return InvalidArgument("model.norm_samples ", config.norm_samples, " must be at least 1");
  if (config.dropout < 0 || config.dropout >= 1) return InvalidArgument("model.dropout ", config.dropout, " is not in [0, 1)");
  const std::int64_t side = std::min(config.height, config.width);
  const std::int64_t least = config.kind == ImageModelKind::kVgg16 ? 1 << kVggPools : config.kind == ImageModelKind::kCnn ? 4 : 8;
  if (side < least) {
    return InvalidArgument("images of ", config.height, " x ", config.width,
                           " are too small for this model, which halves them down to nothing; ", "use images of at least ", least, " x ",
                           least, ", or model.kind = \"cnn\"");
  }
  return OkStatus();
}

std::vector<std::unique_ptr<Layer>> ImageModelLayers(const ImageModelConfig& config) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (const ImagePart& part : ImageModelParts(config)) layers.push_back(std::visit(MakeLayer{config}, part));
  return layers;
}

}  // namespace lycia
