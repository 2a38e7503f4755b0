// RelayStage: a stage for tests of the executor. Its numbers name every stage and sample they have passed; small integers, exact in f64.
#ifndef LYCIA_PARALLEL_PIPELINE_RELAY_STAGE_FOR_TEST_H_
#define LYCIA_PARALLEL_PIPELINE_RELAY_STAGE_FOR_TEST_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/pipeline/stage.h"

namespace lycia {

// out = 3 in + stage + 1; on the last stage loss = out * label. Backward: din = 2 dout + in, weight gradient += dout * in, where the last
// stage starts from dout = out + label. The first stage's tokens are i32.
class RelayStage final : public Stage {
 public:
  static constexpr std::int64_t kSamples = 2;  // of a micro-batch

  RelayStage(int stage, int stages, int slots) : stage_(stage), last_(stage == stages - 1), slots_(static_cast<std::size_t>(slots)) {
    inputs_ = {{stage == 0 ? DType::kI32 : DType::kF64, {kSamples}}};
    if (!last_) outputs_ = {{DType::kF64, {kSamples}}};
  }
  std::span<const TensorSpec> inputs() const override { return inputs_; }
  std::span<const TensorSpec> outputs() const override { return outputs_; }
  bool reads_labels() const override { return last_; }
  void* input(int slot) override { return slots_[static_cast<std::size_t>(slot)].input; }
  void* labels(int slot) override { return slots_[static_cast<std::size_t>(slot)].labels; }

  void Forward(StageContext& context, int slot, void* out) override {
    if (context.stream->kind() == DeviceKind::kShape) return;
    EXPECT_EQ(out == nullptr, last_);
    for (int i = 0; i < kSamples; ++i) {
      if (last_) {
        context.sample_losses[i] = Out(slot, i) * Label(slot, i);
      } else {
        static_cast<double*>(out)[i] = Out(slot, i);
      }
    }
  }
  void Backward(StageContext& context, int slot, const void* dout, void* din) override {
    if (context.stream->kind() == DeviceKind::kShape) return;
    if (fail) return context.stream->Fail(absl::InternalError("arithmetic strike"));
    EXPECT_EQ(dout == nullptr, last_);
    EXPECT_EQ(din == nullptr, stage_ == 0);
    for (int i = 0; i < kSamples; ++i) {
      const double dy = last_ ? Out(slot, i) + Label(slot, i) : static_cast<const double*>(dout)[i];
      gradient += dy * In(slot, i);
      if (din != nullptr) static_cast<double*>(din)[i] = 2 * dy + In(slot, i);
    }
    // The slot is free from here on.
    std::fill(std::begin(slots_[static_cast<std::size_t>(slot)].input), std::end(slots_[static_cast<std::size_t>(slot)].input), 0xEE);
  }
  void BackwardInput(StageContext&, int, const void*, void*) override { FAIL() << "no split backward here"; }
  void BackwardWeight(StageContext&, int) override { FAIL() << "no split backward here"; }

  double gradient = 0;
  bool fail = false;

 private:
  struct Slot {
    alignas(64) std::uint8_t input[64];
    alignas(64) std::int32_t labels[kSamples];
  };
  double In(int slot, int i) {
    const void* in = input(slot);
    return stage_ == 0 ? static_cast<const std::int32_t*>(in)[i] : static_cast<const double*>(in)[i];
  }
  double Out(int slot, int i) { return 3 * In(slot, i) + stage_ + 1; }
  double Label(int slot, int i) const { return slots_[static_cast<std::size_t>(slot)].labels[i]; }

  int stage_;
  bool last_;
  std::vector<TensorSpec> inputs_, outputs_;
  std::vector<Slot> slots_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_RELAY_STAGE_FOR_TEST_H_
