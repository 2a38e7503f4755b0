#include "tests/layouts/random_images.h"

#include "runtime/core/philox.h"
#include "tests/layouts/layout_run.h"

namespace lycia::layouts {

ImageModelConfig SmallCnn() {
  return {.kind = ImageModelKind::kCnn,
          .height = 8,
          .width = 12,
          .channels = 2,
          .classes = 5,
          .norm_samples = 2,
          .mean = {0.4, 0.6},
          .deviation = {0.3, 0.2, 1, 1}};
}

ImageModelConfig SmallResNet() {
  return {.kind = ImageModelKind::kResNet18,
          .height = 9,
          .width = 8,
          .channels = 2,
          .classes = 7,
          .filters = 4,
          .norm_samples = 4,
          .mean = {0.4, 0.6},
          .deviation = {0.3, 0.2, 1, 1}};
}

void RandomImages::Load(std::int64_t step, std::int64_t first_sample, std::int64_t count, void* inputs, std::int32_t* labels) const {
  const RandomStream bytes(kSeed, "layouts/images", static_cast<std::uint64_t>(step));
  const std::int64_t of_sample = model_.height * model_.width * model_.channels;
  for (std::int64_t i = 0; inputs != nullptr && i < count * of_sample; ++i) {
    static_cast<std::uint8_t*>(inputs)[i] =
        static_cast<std::uint8_t>(bytes.Bits(static_cast<std::uint64_t>(first_sample * of_sample + i)) % 256);
  }
  for (std::int64_t s = 0; labels != nullptr && s < count; ++s) labels[s] = LabelOf(step, first_sample + s);
}

std::int32_t RandomImages::LabelOf(std::int64_t step, std::int64_t sample) const {
  const RandomStream labels(kSeed, "layouts/labels", static_cast<std::uint64_t>(step)),
      mask(kSeed, "layouts/mask", static_cast<std::uint64_t>(step));
  const auto at = static_cast<std::uint64_t>(sample);
  return masked_ && mask.Bits(at) % 5 == 0 ? -1 : static_cast<std::int32_t>(labels.Bits(at) % static_cast<std::uint32_t>(model_.classes));
}

std::int64_t RandomImages::LossTokens(std::int64_t step, std::int64_t first_sample, std::int64_t count) const {
  std::int64_t tokens = 0;
  for (std::int64_t s = first_sample; s < first_sample + count; ++s) tokens += LabelOf(step, s) >= 0 ? 1 : 0;
  return tokens;
}

}  // namespace lycia::layouts
