// The independent truth of image models: networks of docs/numerics.md trained serially, everything materialised, the whole global batch at
// once. What is said of serial_trainer.h holds here too.
#ifndef LYCIA_TESTS_TRUTH_SERIAL_IMAGES_H_
#define LYCIA_TESTS_TRUTH_SERIAL_IMAGES_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/truth/serial_trainer.h"

namespace lycia::truth {

struct ImageSizes {
  std::string kind = "cnn";  // or "resnet18", "resnet50"
  int height = 0, width = 0, channels = 0;
  int classes = 0;
  int filters = 64;      // of a ResNet's first group of blocks
  int norm_samples = 1;  // of one statistic of a batch norm; divides every batch
  double momentum = 0.1;
  std::array<double, 4> mean{}, deviation = {1, 1, 1, 1};  // x = (byte / 255 - mean) / deviation
};

// The global batch of one step: images [samples, height, width, channels], labels [samples]; -1: no loss.
struct ImageBatch {
  std::vector<std::uint8_t> images;
  std::vector<std::int32_t> labels;
};

template <typename Number>
class SerialImages {
 public:
  using Array = std::vector<Number>;
  using Arrays = std::map<std::string, Array>;  // by torchvision's name; filters are [K, R, S, C], channels innermost

  // Weights and running statistics get their initial values.
  SerialImages(const ImageSizes& sizes, const TrainingOptions& options);

  // One optimizer step, which also moves the running statistics. The first call is step 0.
  StepResult Step(const ImageBatch& batch);
  // Mean loss with statistics of the batch, as the next step reports it. Changes nothing.
  Number TrainingLoss(const ImageBatch& batch) const;

  struct Evaluation {
    Number loss = 0;  // sum over the labels
    int hits = 0;     // labels with the largest logit
  };
  // With the running statistics. Changes nothing.
  Evaluation Evaluate(const ImageBatch& batch) const;

  Arrays& weights() { return weights_; }
  const Arrays& weights() const { return weights_; }
  const Arrays& gradients() const { return gradients_; }  // of the latest Step, before clipping
  const Arrays& states() const { return states_; }        // running statistics

 private:
  struct Pass;  // forward and backward of one batch

  ImageSizes sizes_;
  TrainingOptions options_;
  int step_ = 0;
  Arrays weights_, gradients_, first_moments_, second_moments_, states_;
};

}  // namespace lycia::truth

#endif  // LYCIA_TESTS_TRUTH_SERIAL_IMAGES_H_
