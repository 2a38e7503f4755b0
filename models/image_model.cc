#include "models/image_model.h"

#include <algorithm>
#include <array>

#include "models/layers/conv_layer.h"
#include "models/layers/dense_layer.h"
#include "models/layers/image_head.h"
#include "models/layers/pool_layer.h"
#include "models/layers/residual_block.h"

namespace lycia {
namespace {

// Images below this many pixels have the small stem.
constexpr std::int64_t kSmallImage = 96;
// Halvings of the image by the pools of VGG-16.
constexpr int kVggPools = 5;

using Layers = std::vector<std::unique_ptr<Layer>>;

ConvUnit::Options Normed(const ImageModelConfig& config, const std::string& conv, const std::string& norm, std::int64_t filters,
                         std::int64_t filter, std::int64_t stride = 1) {
  return {.name = conv,
          .norm = norm,
          .filters = filters,
          .filter = filter,
          .stride = stride,
          .norm_samples = config.norm_samples,
          .norm_momentum = config.norm_momentum,
          .reuse = config.reuse};
}

Layers Cnn(const ImageModelConfig& config) {
  Layers layers;
  layers.push_back(std::make_unique<ConvLayer>(config, Normed(config, "conv1", "bn1", 32, 3)));
  layers.push_back(std::make_unique<PoolLayer>("pool1", PoolLayer::Window{.size = 2, .stride = 2}));
  layers.push_back(std::make_unique<ConvLayer>(config, Normed(config, "conv2", "bn2", 64, 3)));
  layers.push_back(std::make_unique<PoolLayer>("pool2", PoolLayer::Window{.size = 2, .stride = 2}));
  layers.push_back(std::make_unique<DenseLayer>(DenseLayer::Options{.name = "fc1", .units = 128}));
  layers.push_back(std::make_unique<ImageHead>("fc2", config.classes, /*average=*/false));
  return layers;
}

Layers Vgg16(const ImageModelConfig& config) {
  Layers layers;
  constexpr std::array<std::array<std::int64_t, 2>, kVggPools> kGroups = {{{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}}};
  int place = 0;  // in torchvision's list, where ReLUs and pools count
  for (const auto& [convolutions, filters] : kGroups) {
    for (std::int64_t i = 0; i < convolutions; ++i, place += 2) {
      layers.push_back(std::make_unique<ConvLayer>(
          config,
          ConvUnit::Options{.name = StrCat("features.", place), .filters = filters, .filter = 3, .bias = true, .reuse = config.reuse}));
    }
    layers.push_back(std::make_unique<PoolLayer>(StrCat("features.", place++), PoolLayer::Window{.size = 2, .stride = 2}));
  }
  for (const char* name : {"classifier.0", "classifier.3"}) {
    layers.push_back(std::make_unique<DenseLayer>(DenseLayer::Options{.name = name, .units = 4096, .dropout = config.dropout}));
  }
  layers.push_back(std::make_unique<ImageHead>("classifier.6", config.classes, /*average=*/false));
  return layers;
}

Layers ResNet(const ImageModelConfig& config) {
  const bool bottleneck = config.kind == ImageModelKind::kResNet50, small = std::min(config.height, config.width) < kSmallImage;
  Layers layers;
  layers.push_back(std::make_unique<ConvLayer>(config, Normed(config, "conv1", "bn1", config.filters, small ? 3 : 7, small ? 1 : 2)));
  if (!small) layers.push_back(std::make_unique<PoolLayer>("maxpool", PoolLayer::Window{.size = 3, .stride = 2, .pad = 1}));
  const std::array<int, 4> blocks = bottleneck ? std::array{3, 4, 6, 3} : std::array{2, 2, 2, 2};
  for (std::size_t group = 0; group < blocks.size(); ++group) {
    for (int block = 0; block < blocks[group]; ++block) {
      layers.push_back(std::make_unique<ResidualBlock>(ResidualBlock::Options{.name = StrCat("layer", group + 1, ".", block),
                                                                              .width = config.filters << group,
                                                                              .stride = group > 0 && block == 0 ? 2 : 1,
                                                                              .bottleneck = bottleneck,
                                                                              .norm_samples = config.norm_samples,
                                                                              .norm_momentum = config.norm_momentum,
                                                                              .reuse = config.reuse}));
    }
  }
  layers.push_back(std::make_unique<ImageHead>("fc", config.classes, /*average=*/true));
  return layers;
}

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

Layers ImageModelLayers(const ImageModelConfig& config) {
  switch (config.kind) {
    case ImageModelKind::kCnn:
      return Cnn(config);
    case ImageModelKind::kVgg16:
      return Vgg16(config);
    case ImageModelKind::kResNet18:
    case ImageModelKind::kResNet50:
      break;
  }
  return ResNet(config);
}

}  // namespace lycia
