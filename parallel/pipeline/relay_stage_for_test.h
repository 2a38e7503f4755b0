// RelayStage: a stage for tests of the executor. Its numbers name every stage and sample they have passed; small integers, exact in f64.
// What a slot held is gone once the slot should be free.
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
  void* input(const StageSlots& at) override { return SlotOf(at).input + at.part * kSamples / at.parts * inputs_[0].bytes() / kSamples; }
  void* labels(const StageSlots& at) override { return SlotOf(at).labels + at.part * kSamples / at.parts; }

  void TakeInput(Stream& stream, const StageSlots& at, const void* message) override {
    if (stream.kind() != DeviceKind::kShape) stream.Copy(input(at), message, inputs_[0].bytes() / at.parts);
  }
  void Forward(StageContext& context, const StageSlots& at, void* out) override {
    if (context.stream->kind() == DeviceKind::kShape) return;
    EXPECT_EQ(out == nullptr, last_);
    EXPECT_EQ(context.samples.count, kSamples / at.parts);
    for (int i = 0; i < kSamples / at.parts; ++i) {
      if (last_) {
        context.sample_losses[i] = Out(at, i) * Label(at, i);
      } else {
        static_cast<double*>(out)[i] = Out(at, i);
      }
    }
  }
  void Backward(StageContext& context, const StageSlots& at, const void* dout, void* din) override {
    if (context.stream->kind() == DeviceKind::kShape) return;
    if (fail) return context.stream->Fail(absl::InternalError("arithmetic strike"));
    Differentiate(at, dout, din, [&](int i, double dy) { gradient += dy * In(at, i); });
    Forget(at);
  }
  void BackwardInput(StageContext& context, const StageSlots& at, const void* dout, void* din) override {
    if (context.stream->kind() == DeviceKind::kShape) return;
    Differentiate(at, dout, din, [&](int i, double dy) { SlotOf(at).handoff[at.part * kSamples / at.parts + i] = dy; });
  }
  void BackwardWeight(StageContext& context, const StageSlots& at) override {
    if (context.stream->kind() == DeviceKind::kShape) return;
    for (int i = 0; i < kSamples / at.parts; ++i) gradient += SlotOf(at).handoff[at.part * kSamples / at.parts + i] * In(at, i);
    Forget(at);
  }

  double gradient = 0;
  bool fail = false;

 private:
  struct Slot {
    alignas(64) std::uint8_t input[64];
    alignas(64) std::int32_t labels[kSamples];
    double handoff[kSamples];
  };
  Slot& SlotOf(const StageSlots& at) { return slots_[static_cast<std::size_t>(at.stash)]; }
  template <typename Use>
  void Differentiate(const StageSlots& at, const void* dout, void* din, const Use& use) {
    EXPECT_EQ(dout == nullptr, last_);
    EXPECT_EQ(din == nullptr, stage_ == 0);
    for (int i = 0; i < kSamples / at.parts; ++i) {
      const double dy = last_ ? Out(at, i) + Label(at, i) : static_cast<const double*>(dout)[i];
      use(i, dy);
      if (din != nullptr) static_cast<double*>(din)[i] = 2 * dy + In(at, i);
    }
  }
  // The part is not needed from here on.
  void Forget(const StageSlots& at) {
    auto* bytes = static_cast<std::uint8_t*>(input(at));
    std::fill(bytes, bytes + inputs_[0].bytes() / at.parts, 0xEE);
  }
  double In(const StageSlots& at, int i) {
    const void* in = input(at);
    return stage_ == 0 ? static_cast<const std::int32_t*>(in)[i] : static_cast<const double*>(in)[i];
  }
  double Out(const StageSlots& at, int i) { return 3 * In(at, i) + stage_ + 1; }
  double Label(const StageSlots& at, int i) { return static_cast<const std::int32_t*>(labels(at))[i]; }

  int stage_;
  bool last_;
  std::vector<TensorSpec> inputs_, outputs_;
  std::vector<Slot> slots_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_RELAY_STAGE_FOR_TEST_H_
