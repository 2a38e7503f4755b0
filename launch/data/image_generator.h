// Images whose class can be learned, but not from single pixels: a patch with stripes on a flat background. The class says how the stripes
// lie (and from 7 classes on which of two or four shapes the patch has, from 49 on which of two wavelengths); place, size, phase, colours,
// contrast and a little turn of the stripes are random, and the patch is noisy. For runs and measurements that need images of any size
// without files.
#ifndef LYCIA_LAUNCH_DATA_IMAGE_GENERATOR_H_
#define LYCIA_LAUNCH_DATA_IMAGE_GENERATOR_H_

#include <cstdint>

#include "runtime/core/status.h"

namespace lycia {

struct ImageGeneratorOptions {
  std::int64_t count = 0;
  std::int64_t height = 32, width = 32;  // at least 8
  std::int64_t channels = 3;             // 1 .. 16
  std::int64_t classes = 10;             // 2 .. 128
  std::uint64_t seed = 1;
};

// Image and label `index` are pure functions of (seed, index) and of the sizes. Immutable.
class ImageGenerator {
 public:
  // InvalidArgument: a size outside the ranges above, with the key and the range.
  static StatusOr<ImageGenerator> Create(const ImageGeneratorOptions& options);

  const ImageGeneratorOptions& options() const { return options_; }
  std::int32_t Label(std::int64_t index) const;                  // index in [0, count)
  void Generate(std::int64_t index, std::uint8_t* image) const;  // [height, width, channels] =
  // What a class is made of.
  struct Kind {
    std::int64_t orientation = 0, shape = 0, wavelength = 0;
  };
  Kind KindOf(std::int32_t label) const;
  std::int64_t orientations() const;  // stripes of kind k run at the angle pi k / orientations(), turned by up to a fifth of that step

 private:
  explicit ImageGenerator(const ImageGeneratorOptions& options) : options_(options) {}
  ImageGeneratorOptions options_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_IMAGE_GENERATOR_H_
