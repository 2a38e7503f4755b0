// What the models of images are made of, in order: said once, for whole layers (image_model.h) and for those on a tensor grid.
#ifndef LYCIA_MODELS_IMAGE_PARTS_H_
#define LYCIA_MODELS_IMAGE_PARTS_H_

#include <string>
#include <variant>
#include <vector>

#include "models/image_model.h"
#include "models/layers/conv_unit.h"
#include "models/layers/dense_layer.h"
#include "models/layers/pool_layer.h"
#include "models/layers/residual_block.h"

namespace lycia {

struct PoolPart {
  std::string name;
  PoolLayer::Window window;
};
// The last: the average over the image or all of it, to logits and their loss.
struct HeadPart {
  std::string name;
  std::int64_t classes = 0;
  bool average = false;
};
using ImagePart = std::variant<ConvUnit::Options, PoolPart, DenseLayer::Options, ResidualBlock::Options, HeadPart>;

// One for each layer; the first is a convolution, which reads the bytes of images.
std::vector<ImagePart> ImageModelParts(const ImageModelConfig& config);

}  // namespace lycia

#endif  // LYCIA_MODELS_IMAGE_PARTS_H_
