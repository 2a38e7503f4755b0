// Small models of images for layouts, and their random batches.
#ifndef LYCIA_TESTS_LAYOUTS_RANDOM_IMAGES_H_
#define LYCIA_TESTS_LAYOUTS_RANDOM_IMAGES_H_

#include <cstdint>

#include "launch/trainer.h"
#include "models/image_model.h"

namespace lycia::layouts {

// The models of tests/golden/images_cnn.json and images_resnet18.json. All extents differ.
ImageModelConfig SmallCnn();
ImageModelConfig SmallResNet();

// Random bytes and labels by (step, sample, element); masked: one label in five is -1.
class RandomImages final : public BatchSource {
 public:
  RandomImages(const ImageModelConfig& model, bool masked) : model_(model), masked_(masked) {}
  void Load(std::int64_t step, std::int64_t first_sample, std::int64_t count, void* inputs, std::int32_t* labels) const override;
  std::int64_t LossTokens(std::int64_t step, std::int64_t first_sample, std::int64_t count) const override;

 private:
  std::int32_t LabelOf(std::int64_t step, std::int64_t sample) const;

  ImageModelConfig model_;
  bool masked_;
};

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_RANDOM_IMAGES_H_
