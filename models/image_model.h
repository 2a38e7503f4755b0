// Models that classify images, as lists of layers: a small network for small images, VGG-16 (Simonyan & Zisserman 2015, configuration D)
// and ResNet-18 and -50 (He et al. 2016; stride in the 3x3 convolution of a bottleneck). Names are torchvision's. Filters are stored with
// channels innermost, [K, R, S, C] (kernels/conv/conv_shape.h): torchvision's [K, C, R, S] permuted by (0, 2, 3, 1).
#ifndef LYCIA_MODELS_IMAGE_MODEL_H_
#define LYCIA_MODELS_IMAGE_MODEL_H_

#include <array>
#include <memory>
#include <vector>

#include "kernels/image/normalize.h"
#include "parallel/layer/layer.h"

namespace lycia {

//   kCnn       conv 3x3 of 32, batch norm, ReLU, max pool 2; the same of 64; 128 units, ReLU; head
//   kVgg16     13 convolutions 3x3 with bias in five groups, each with a max pool 2 after it; twice 4096 units, ReLU and dropout; head
//   kResNet18  stem; 2, 2, 2, 2 blocks of two 3x3; average over the image; head
//   kResNet50  stem; 3, 4, 6, 3 bottlenecks 1x1, 3x3, 1x1; average over the image; head
// The stem of a ResNet is a convolution 7x7 of stride 2 and a max pool 3 of stride 2, or 3x3 of stride 1 alone for images below 96 pixels,
// as is usual for CIFAR.
enum class ImageModelKind : std::uint8_t { kCnn, kVgg16, kResNet18, kResNet50 };

struct ImageModelConfig {
  ImageModelKind kind = ImageModelKind::kCnn;
  std::int64_t height = 28, width = 28, channels = 1;
  std::int64_t classes = 10;
  std::int64_t filters = 64;  // of a ResNet's first group of blocks; each group has twice as many as the one before
  // Samples over which a batch norm takes its statistics, whatever the layout; divides the micro-batch.
  std::int64_t norm_samples = 16;
  double norm_momentum = 0.1;  // weight of a new statistic in the running ones
  ReuseOptions reuse;          // of patches of convolutions
  double dropout = 0;          // of VGG's two inner dense layers
  // Of the training images, in units of 0 .. 1: inputs are (byte / 255 - mean) / deviation.
  std::array<double, kMaxImageChannels> mean{}, deviation = {1, 1, 1, 1};
};

// InvalidArgument with the numbers for sizes that do not fit.
Status Validate(const ImageModelConfig& config);

// Fresh layers; the input of the first is images [samples, height, width, channels] u8.
std::vector<std::unique_ptr<Layer>> ImageModelLayers(const ImageModelConfig& config);

}  // namespace lycia

#endif  // LYCIA_MODELS_IMAGE_MODEL_H_
