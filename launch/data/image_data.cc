#include "launch/data/image_data.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "launch/data/augmentation.h"
#include "launch/data/cifar_file.h"
#include "launch/data/idx_file.h"
#include "launch/data/keyed_permutation.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

StatusOr<ImageSet> ReadFiles(const ImageDataOptions& options) {
  if (options.format == "idx") return ReadIdx(options.files, options.classes);
  const Cifar kind = options.format == "cifar10" ? Cifar::k10 : Cifar::k100;
  LYCIA_ASSIGN_OR_RETURN(ImageSet set, ReadCifar(kind, options.files));
  if (options.classes != 0 && options.classes != set.classes) {
    return InvalidArgument("model.classes = ", options.classes, ", but format ", options.format, " has ", set.classes, "; leave it 0");
  }
  return set;
}

StatusOr<ImageGenerator> MakeGenerator(const ImageDataOptions& options) {
  if (!options.files.empty()) {
    return InvalidArgument("data.files names ", options.files.size(),
                           " files, but generated images have none; leave it empty, or change data.format");
  }
  return ImageGenerator::Create({.count = options.count,
                                 .height = options.height,
                                 .width = options.width,
                                 .channels = options.channels,
                                 .classes = options.classes,
                                 .seed = options.seed});
}

void KeepImages(const ImageGenerator& generator, ImageSet& set) {
  set.pixels.resize(static_cast<std::size_t>(generator.options().count * set.image_bytes()));
  for (std::int64_t i = 0; i < generator.options().count; ++i) {
    generator.Generate(i, set.pixels.data() + i * set.image_bytes());
    set.labels.push_back(generator.Label(i));
  }
}

}  // namespace

StatusOr<ImageData> ImageData::Open(const ImageDataOptions& options) {
  LYCIA_CHECK_GE(options.batch, 1);
  if (!(options.held_out >= 0 && options.held_out < 1)) {
    return InvalidArgument("data.held_out = ", options.held_out, " is no fraction of the images; use a value from 0 to below 1");
  }
  ImageData data;
  data.options_ = options;
  if (options.format == "generated") {
    LYCIA_ASSIGN_OR_RETURN(data.generator_, MakeGenerator(options));
    data.set_ = {.height = options.height, .width = options.width, .channels = options.channels, .classes = options.classes};
    data.count_ = options.count;
    if (data.count_ <= kKeptBytes / data.set_.image_bytes()) KeepImages(*data.generator_, data.set_);
  } else if (options.format == "idx" || options.format == "cifar10" || options.format == "cifar100") {
    LYCIA_ASSIGN_OR_RETURN(data.set_, ReadFiles(options));
    data.count_ = data.set_.count();
  } else {
    return InvalidArgument("data.format = \"", options.format,
                           "\" is unknown; images are \"idx\", \"cifar10\", \"cifar100\" or \"generated\"");
  }
  const std::int64_t most = std::min(data.height(), data.width()) / 8;
  if (options.shift < 0 || options.shift > most) {
    return InvalidArgument("data.shift = ", options.shift, ", but images of ", data.height(), " x ", data.width(), " may be moved by 0 .. ",
                           most, " pixels, an eighth of the shorter side; use one of these");
  }
  data.split_ = data.count_ - static_cast<std::int64_t>(std::floor(static_cast<double>(data.count_) * options.held_out));
  if (options.held_out > 0 && data.split_ == data.count_) {
    return InvalidArgument("data.held_out = ", options.held_out, " of ", data.count_,
                           " images leaves none to evaluate on; use a larger fraction, or 0 for none");
  }
  if (data.split_ < 1) {
    return InvalidArgument("data.held_out = ", options.held_out, " of ", data.count_,
                           " images leaves none to train on; use a smaller fraction");
  }
  const std::int64_t held_out = data.held_out_images();
  if (held_out * (options.fold + 1) > data.count_) {
    return InvalidArgument("data.fold = ", options.fold, " with data.held_out = ", options.held_out, " lies before the first of ",
                           data.count_, " images; use a fold below ", held_out > 0 ? data.count_ / held_out : 1);
  }
  data.rotation_ = (data.count_ - options.fold * held_out) % data.count_;
  data.Measure();
  return data;
}

std::int64_t ImageData::Image(std::int64_t step, std::int64_t sample) const {
  const std::int64_t number = step * options_.batch + sample;
  const RandomStream key(options_.seed, "data.order", static_cast<std::uint64_t>(number / split_));
  return KeyedPermutation(key, split_)(number % split_);
}

void ImageData::Load(std::int64_t step, std::int64_t first, std::int64_t count, std::uint8_t* images, std::int32_t* labels) const {
  for (std::int64_t sample = first; sample < first + count; ++sample) {
    const std::int64_t index = Image(step, sample);
    if (labels != nullptr) *labels++ = Label(index);
    if (images == nullptr) continue;
    Copy(index, images);
    Augment(static_cast<std::uint64_t>(step * options_.batch + sample), images);
    images += set_.image_bytes();
  }
}

void ImageData::LoadHeldOut(std::int64_t first, std::int64_t count, std::uint8_t* images, std::int32_t* labels) const {
  for (std::int64_t index = split_ + first; index < split_ + first + count; ++index) {
    if (labels != nullptr) *labels++ = index < count_ ? Label(index) : kIgnoredLabel;
    if (images == nullptr) continue;
    if (index < count_) {
      Copy(index, images);
    } else {
      std::memset(images, 0, static_cast<std::size_t>(set_.image_bytes()));
    }
    images += set_.image_bytes();
  }
}

std::int64_t ImageData::HeldOutLabels(std::int64_t first, std::int64_t count) const {
  return std::clamp<std::int64_t>(held_out_images() - first, 0, count);
}

void ImageData::Copy(std::int64_t index, std::uint8_t* image) const {
  const std::int64_t stored = Stored(index);
  if (set_.pixels.empty()) {
    generator_->Generate(stored, image);
  } else {
    std::memcpy(image, set_.pixels.data() + stored * set_.image_bytes(), static_cast<std::size_t>(set_.image_bytes()));
  }
}

std::int32_t ImageData::Label(std::int64_t index) const {
  const std::int64_t stored = Stored(index);
  return set_.labels.empty() ? generator_->Label(stored) : set_.labels[static_cast<std::size_t>(stored)];
}

void ImageData::Augment(std::uint64_t number, std::uint8_t* image) const {
  if (!options_.mirror && options_.shift == 0) return;
  const RandomStream stream(options_.seed, "data.augmentation", 0);
  const ImageExtents extents{.height = height(), .width = width(), .channels = channels()};
  const auto places = static_cast<std::uint64_t>(2 * options_.shift + 1);
  const auto draw = [&](std::uint64_t which) {
    return static_cast<std::int64_t>(stream.Bits(4 * number + which) * places >> 32) - options_.shift;
  };
  if (options_.mirror && stream.Bits(4 * number + 2) >> 31 == 1) MirrorImage(extents, image);
  if (options_.shift > 0) ShiftImage(extents, draw(0), draw(1), image);
}

// Sums of bytes and of their squares are exact integers, so the order of adding does not matter.
void ImageData::Measure() {
  const auto channel_count = static_cast<std::size_t>(channels());
  std::vector<std::uint64_t> sums(channel_count), squares(channel_count);
  const bool kept = !set_.pixels.empty();
  const std::int64_t images = kept ? split_ : std::min(split_, std::max<std::int64_t>(kKeptBytes / set_.image_bytes(), 1));
  std::vector<std::uint8_t> image(static_cast<std::size_t>(set_.image_bytes()));
  for (std::int64_t index = 0; index < images; ++index) {
    Copy(index, image.data());
    for (std::size_t i = 0; i < image.size(); ++i) {
      sums[i % channel_count] += image[i];
      squares[i % channel_count] += unsigned{image[i]} * image[i];
    }
  }
  const auto values = static_cast<double>(images * height() * width());
  for (std::size_t c = 0; c < channel_count; ++c) {
    const double mean = static_cast<double>(sums[c]) / values;
    // values^2 times the variance, without cancellation.
    const unsigned __int128 n = static_cast<unsigned __int128>(images * height() * width());
    const unsigned __int128 spread = n * squares[c] - static_cast<unsigned __int128>(sums[c]) * sums[c];
    mean_.push_back(mean / 255);
    deviation_.push_back(std::sqrt(static_cast<double>(spread)) / values / 255);
  }
}

}  // namespace lycia
