// What a run trains on and is measured by: text for a GPT, images for the others.
#ifndef LYCIA_LAUNCH_TRAINING_DATA_H_
#define LYCIA_LAUNCH_TRAINING_DATA_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "launch/config.h"
#include "launch/data/image_data.h"
#include "launch/data/text_data.h"
#include "launch/trainer.h"

namespace lycia {

class TrainingData {
 public:
  // Opens what config.data names and gives config.model what the data decides: sizes of images, classes, mean and deviation.
  // InvalidArgument for data that cannot be used, or that the model's own keys contradict. After ResolveConfig.
  static StatusOr<TrainingData> Open(Config& config);

  const BatchSource& training() const { return *training_; }
  const BatchSource& held_out() const { return *held_out_; }
  std::int64_t held_out_samples() const;  // windows of text, or images
  std::int64_t held_out_labels(std::int64_t samples) const { return held_out_->LossTokens(0, 0, samples); }
  std::int64_t labels_per_sample() const { return text_ ? text_->context() : 1; }

  const char* unit() const { return text_ ? "tokens" : "images"; }  // what a sample is counted in
  const char* loss_unit() const { return text_ ? "nats/byte" : "nats/image"; }
  const char* size_name() const { return text_ ? "training_bytes" : "training_images"; }
  std::int64_t size() const;  // of the training part

  const TextData* text() const { return text_.get(); }  // nullptr: images
  const ImageData* images() const { return images_.get(); }

 private:
  Status OpenText(const Config& config);
  Status OpenImages(Config& config);

  std::unique_ptr<const TextData> text_;
  std::unique_ptr<const ImageData> images_;
  std::unique_ptr<BatchSource> training_, held_out_;
};

// Share of the held-out images that the commonest class of all of them has: what a classifier must beat.
double CommonestClassShare(const ImageData& images);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_TRAINING_DATA_H_
