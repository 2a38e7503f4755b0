#include "models/image_parts.h"

#include <algorithm>
#include <array>

namespace lycia {
namespace {

// Images below this many pixels have the small stem.
constexpr std::int64_t kSmallImage = 96;

using Parts = std::vector<ImagePart>;

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

Parts Cnn(const ImageModelConfig& config) {
  Parts parts;
  parts.push_back(Normed(config, "conv1", "bn1", 32, 3));
  parts.push_back(PoolPart{"pool1", {.size = 2, .stride = 2}});
  parts.push_back(Normed(config, "conv2", "bn2", 64, 3));
  parts.push_back(PoolPart{"pool2", {.size = 2, .stride = 2}});
  parts.push_back(DenseLayer::Options{.name = "fc1", .units = 128});
  parts.push_back(HeadPart{.name = "fc2", .classes = config.classes});
  return parts;
}

Parts Vgg16(const ImageModelConfig& config) {
  Parts parts;
  constexpr std::array<std::array<std::int64_t, 2>, 5> kGroups = {{{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}}};
  int place = 0;  // in torchvision's list, where ReLUs and pools count
  for (const auto& [convolutions, filters] : kGroups) {
    for (std::int64_t i = 0; i < convolutions; ++i, place += 2) {
      parts.push_back(
          ConvUnit::Options{.name = StrCat("features.", place), .filters = filters, .filter = 3, .bias = true, .reuse = config.reuse});
    }
    parts.push_back(PoolPart{StrCat("features.", place++), {.size = 2, .stride = 2}});
  }
  for (const char* name : {"classifier.0", "classifier.3"}) {
    parts.push_back(DenseLayer::Options{.name = name, .units = 4096, .dropout = config.dropout});
  }
  parts.push_back(HeadPart{.name = "classifier.6", .classes = config.classes});
  return parts;
}

Parts ResNet(const ImageModelConfig& config) {
  const bool bottleneck = config.kind == ImageModelKind::kResNet50, small = std::min(config.height, config.width) < kSmallImage;
  Parts parts;
  parts.push_back(Normed(config, "conv1", "bn1", config.filters, small ? 3 : 7, small ? 1 : 2));
  if (!small) parts.push_back(PoolPart{"maxpool", {.size = 3, .stride = 2, .pad = 1}});
  const std::array<int, 4> blocks = bottleneck ? std::array{3, 4, 6, 3} : std::array{2, 2, 2, 2};
  for (std::size_t group = 0; group < blocks.size(); ++group) {
    for (int block = 0; block < blocks[group]; ++block) {
      parts.push_back(ResidualBlock::Options{.name = StrCat("layer", group + 1, ".", block),
                                             .width = config.filters << group,
                                             .stride = group > 0 && block == 0 ? 2 : 1,
                                             .bottleneck = bottleneck,
                                             .norm_samples = config.norm_samples,
                                             .norm_momentum = config.norm_momentum,
                                             .reuse = config.reuse});
    }
  }
  parts.push_back(HeadPart{.name = "fc", .classes = config.classes, .average = true});
  return parts;
}

}  // namespace

std::vector<ImagePart> ImageModelParts(const ImageModelConfig& config) {
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
