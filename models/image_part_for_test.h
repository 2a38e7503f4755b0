// Some layers on images as a stage, with input, weights and the gradient of the output filled in at random.
#ifndef LYCIA_MODELS_IMAGE_PART_FOR_TEST_H_
#define LYCIA_MODELS_IMAGE_PART_FOR_TEST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "models/image_model.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "runtime/core/philox.h"

namespace lycia {

using NewLayers = std::function<std::vector<std::unique_ptr<Layer>>()>;

class ImagePart {
 public:
  static constexpr std::int64_t kSamples = 4, kFirstSample = 8, kGlobalSamples = 16;
  static constexpr int kClasses = 5;
  struct Options {
    Recompute recompute = Recompute::kNone;
    bool split = false, packed = false;
    int parts = 1;
  };

  // in: [kSamples, ...] f64, or u8 bytes.
  ImagePart(const NewLayers& new_layers, const TensorSpec& in, const Options& options) : options_(options) {
    std::vector<int> parts = {1};
    if (options.parts > 1) parts.push_back(options.parts);
    stage = *LayerStage::Create(new_layers(), {in},
                                {.compute = DType::kF64,
                                 .recompute = options.recompute,
                                 .full_backward = !options.split,
                                 .split_backward = options.split,
                                 .packed_weights = options.packed,
                                 .parts = parts});
    memory = std::make_unique<StageMemoryForTest>(*stage, 1, kGlobalSamples);
    for (auto& [name, values] : memory->weights()) {
      const bool gain = stage->states().size() > 0 && name.find("n") != std::string::npos && name.ends_with(".weight");
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.4 * Value(name, i) + (gain ? 0.1 : 0.0);
    }
    const bool bytes = in.dtype == DType::kU8;
    for (std::size_t i = 0; i < static_cast<std::size_t>(in.elements()); ++i) {
      if (bytes) {
        static_cast<std::uint8_t*>(stage->input(kSlots))[i] = static_cast<std::uint8_t>(RandomStream(5, "bytes", 0).Bits(i) % 256);
      } else {
        static_cast<double*>(stage->input(kSlots))[i] = Value("x", i);
      }
    }
    for (std::int64_t s = 0; stage->reads_labels() && s < kSamples; ++s) {
      static_cast<std::int32_t*>(stage->labels(kSlots))[s] = s == 2 ? -1 : static_cast<std::int32_t>(s * 3 % kClasses);
    }
    if (!stage->reads_labels()) {
      out.resize(static_cast<std::size_t>(stage->outputs()[0].elements()));
      for (std::size_t i = 0; i < out.size(); ++i) dout.push_back(Value("dout", i));
    }
    din.resize(bytes ? 0 : static_cast<std::size_t>(in.elements()));
    context = {.stream = stream.get(), .seed = 9, .step = 4, .gradient_scale = 0.25};
  }

  // What the backward is the derivative of: <dout, out>, or the scaled loss. Part by part.
  double Forward() {
    stage->WeightsChanged();
    std::vector<double> losses(kSamples, 0);
    ForEachPart([&](const StageSlots& slots, std::size_t part) {
      context.sample_losses = losses.data() + part * losses.size() / static_cast<std::size_t>(options_.parts);
      stage->Forward(context, slots, out.empty() ? nullptr : PartOf(out, part));
      memory->Poison(Area::kTransient);
    });
    context.sample_losses = nullptr;
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
    for (const double loss : losses) sum += out.empty() ? loss * context.gradient_scale : 0.0;
    return sum;
  }
  // Adds to the gradients; what may be overwritten on the way is.
  void Backward() {
    ForEachPart([&](const StageSlots& slots, std::size_t part) {
      const void* of_out = dout.empty() ? nullptr : PartOf(dout, part);
      void* of_in = din.empty() ? nullptr : PartOf(din, part);
      options_.split ? stage->BackwardInput(context, slots, of_out, of_in) : stage->Backward(context, slots, of_out, of_in);
      memory->Poison(Area::kTransient);
    });
    if (!options_.split) return;
    memory->Poison(Area::kInput);
    ForEachPart([&](StageSlots slots, std::size_t) {
      slots.input = -1;
      stage->BackwardWeight(context, slots);
      memory->Poison(Area::kTransient);
    });
  }

  static double Value(const std::string& what, std::size_t i) { return RandomStream(5, what, 0).Normal(i); }
  static constexpr StageSlots kSlots{.stash = 0, .input = 0, .handoff = 0};

  std::unique_ptr<Device> device = NewCpuDevice();
  std::unique_ptr<Stream> stream = *device->NewStream();
  std::unique_ptr<LayerStage> stage;
  std::unique_ptr<StageMemoryForTest> memory;
  StageContext context;
  std::vector<double> out, dout, din;

 private:
  double* PartOf(std::vector<double>& whole, std::size_t part) const {
    return whole.data() + part * whole.size() / static_cast<std::size_t>(options_.parts);
  }
  void ForEachPart(const auto& call) {
    for (int part = 0; part < options_.parts; ++part) {
      StageSlots slots = kSlots;
      slots.part = part;
      slots.parts = options_.parts;
      const std::int64_t samples = kSamples / options_.parts;
      context.samples = {kFirstSample + part * samples, samples};
      call(slots, static_cast<std::size_t>(part));
    }
  }
  Options options_;
};

}  // namespace lycia

#endif  // LYCIA_MODELS_IMAGE_PART_FOR_TEST_H_
