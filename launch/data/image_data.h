// ImageData: labelled images, split into a training part and a held-out tail.
//
// Sample i of step s (from 0) is number g = s * batch + i of an endless sequence of epochs: epoch e = g / training_images() shows every
// training image once, in an order that is a pure function of (seed, e). So any rank loads any sample, on every layout and after every
// restart, without state; how a batch is cut among ranks changes nothing. Immutable after Open: ranks that are threads share one.
#ifndef LYCIA_LAUNCH_DATA_IMAGE_DATA_H_
#define LYCIA_LAUNCH_DATA_IMAGE_DATA_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "launch/data/ignored_label.h"
#include "launch/data/image_generator.h"
#include "launch/data/image_set.h"
#include "runtime/core/status.h"

namespace lycia {

struct ImageDataOptions {
  std::string format;              // "idx", "cifar10", "cifar100", "generated"
  std::vector<std::string> files;  // idx: images, labels, images, labels, ...; cifar: .bin files in order; generated: none
  double held_out = 0.1;           // fraction of the images, at the end, never trained on
  std::int64_t fold = 0;           // k > 0: the k-th part of that size before the end instead
  std::int64_t batch = 1;          // samples of a step
  std::uint64_t seed = 1;          // of the order, of the augmentation and of generated images
  // Augmentation of training images, by sample: every epoch shows other variants.
  std::int64_t shift = 0;    // moved by -shift .. shift pixels along each axis, zeros coming in; at most an eighth of the shorter side
  bool mirror = false;       // left and right exchanged in half of the samples
  std::int64_t classes = 0;  // idx: 0 for the largest label + 1; cifar: 0; generated: 2 .. 128
  std::int64_t count = 0;    // generated, as are the sizes
  std::int64_t height = 32, width = 32, channels = 3;
};

class ImageData {
 public:
  // InvalidArgument: an unknown format, files that cannot be read or do not fit it (idx_file.h, cifar_file.h), sizes that cannot be
  // generated (image_generator.h), a shift that is too large, a held-out fraction that leaves one of the parts without images.
  static StatusOr<ImageData> Open(const ImageDataOptions& options);

  std::int64_t height() const { return set_.height; }
  std::int64_t width() const { return set_.width; }
  std::int64_t channels() const { return set_.channels; }
  std::int64_t classes() const { return set_.classes; }
  std::int64_t training_images() const { return split_; }
  std::int64_t held_out_images() const { return count_ - split_; }

  // [channels]: of all values of a channel of the training part before augmentation, where 255 is 1; the deviation of a constant channel is
  // 0. Of generated images that are not kept in memory: of the first kKeptBytes of the training part.
  std::span<const double> mean() const { return mean_; }
  std::span<const double> deviation() const { return deviation_; }
  static constexpr std::int64_t kKeptBytes = std::int64_t{64}
                                             << 20;  // generated images up to this are made once, more when they are loaded

  // The training image that sample `sample` of step `step` shows: 0 .. training_images() - 1.
  std::int64_t Image(std::int64_t step, std::int64_t sample) const;
  // Samples first .. + count - 1 of a step's global batch: images [count, H, W, C], labels [count, 1]; either may be nullptr. All labels
  // count. Allocates nothing.
  void Load(std::int64_t step, std::int64_t first, std::int64_t count, std::uint8_t* images, std::int32_t* labels) const;

  // Evaluation: the held-out images in order, never augmented; those beyond the end are zeros with kIgnoredLabel. Allocates nothing.
  void LoadHeldOut(std::int64_t first, std::int64_t count, std::uint8_t* images, std::int32_t* labels) const;
  // Labels other than kIgnoredLabel among them.
  std::int64_t HeldOutLabels(std::int64_t first, std::int64_t count) const;

 private:
  ImageData() = default;
  // Images by index: training first, then held out.
  void Copy(std::int64_t index, std::uint8_t* image) const;  // image [H, W, C] =
  std::int32_t Label(std::int64_t index) const;
  std::int64_t Stored(std::int64_t index) const { return (index + rotation_) % count_; }  // where a fold has it
  void Augment(std::uint64_t number, std::uint8_t* image) const;
  void Measure();

  ImageDataOptions options_;
  ImageSet set_;  // pixels and labels are empty where the generator makes them
  std::optional<ImageGenerator> generator_;
  std::int64_t count_ = 0, split_ = 0, rotation_ = 0;
  std::vector<double> mean_, deviation_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_IMAGE_DATA_H_
