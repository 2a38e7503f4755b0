// Text and images as the trainer's batches.
#ifndef LYCIA_LAUNCH_BATCHES_H_
#define LYCIA_LAUNCH_BATCHES_H_

#include "launch/data/image_data.h"
#include "launch/data/text_data.h"
#include "launch/trainer.h"

namespace lycia {

// Samples of the training part, drawn by step and index.
class TrainingText final : public BatchSource {
 public:
  explicit TrainingText(const TextData& data) : data_(data) {}
  void Load(std::int64_t step, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override {
    data_.Load(step, first, count, static_cast<std::int32_t*>(inputs), labels);
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count * data_.context(); }

 private:
  const TextData& data_;
};

// Windows of the held-out part, in order; the step does not matter.
class HeldOutText final : public BatchSource {
 public:
  explicit HeldOutText(const TextData& data) : data_(data) {}
  void Load(std::int64_t, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override {
    data_.LoadHeldOut(first, count, static_cast<std::int32_t*>(inputs), labels);
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t first, std::int64_t count) const override { return data_.HeldOutTokens(first, count); }

 private:
  const TextData& data_;
};

// The same of images; a label is a loss token.
class TrainingImages final : public BatchSource {
 public:
  explicit TrainingImages(const ImageData& data) : data_(data) {}
  void Load(std::int64_t step, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override {
    data_.Load(step, first, count, static_cast<std::uint8_t*>(inputs), labels);
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count; }

 private:
  const ImageData& data_;
};

class HeldOutImages final : public BatchSource {
 public:
  explicit HeldOutImages(const ImageData& data) : data_(data) {}
  void Load(std::int64_t, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override {
    data_.LoadHeldOut(first, count, static_cast<std::uint8_t*>(inputs), labels);
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t first, std::int64_t count) const override { return data_.HeldOutLabels(first, count); }

 private:
  const ImageData& data_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_BATCHES_H_
