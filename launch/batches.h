// Text as the trainer's batches.
#ifndef LYCIA_LAUNCH_BATCHES_H_
#define LYCIA_LAUNCH_BATCHES_H_

#include "launch/data/text_data.h"
#include "launch/trainer.h"

namespace lycia {

// Samples of the training part, drawn by step and index.
class TrainingBatches final : public BatchSource {
 public:
  explicit TrainingBatches(const TextData& data) : data_(data) {}
  void Load(std::int64_t step, std::int64_t first, std::int64_t count, std::int32_t* tokens, std::int32_t* labels) const override {
    data_.Load(step, first, count, tokens, labels);
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count * data_.context(); }

 private:
  const TextData& data_;
};

// Windows of the held-out part, in order; the step does not matter.
class HeldOutBatches final : public BatchSource {
 public:
  explicit HeldOutBatches(const TextData& data) : data_(data) {}
  void Load(std::int64_t, std::int64_t first, std::int64_t count, std::int32_t* tokens, std::int32_t* labels) const override {
    data_.LoadHeldOut(first, count, tokens, labels);
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t first, std::int64_t count) const override { return data_.HeldOutTokens(first, count); }

 private:
  const TextData& data_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_BATCHES_H_
