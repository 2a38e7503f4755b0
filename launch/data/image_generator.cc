#include "launch/data/image_generator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "launch/data/image_limits.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr std::int64_t kMaxChannels = 16, kMaxClasses = 128, kMinSide = 8;
constexpr double kNoise = 24;               // grey levels, half the width of a uniform distribution
constexpr double kTurn = 0.2;               // of the step between orientations, either way
constexpr std::uint64_t kFirstNoise = 128;  // elements of an image's stream before it are its parameters, four bytes of noise each after it

// Random parameters of one image, in the order in which they are drawn.
class Draws {
 public:
  explicit Draws(const RandomStream& stream) : stream_(stream) {}
  double Next(double least, double most) { return least + (most - least) * stream_.Uniform(next_++); }

 private:
  RandomStream stream_;
  std::uint64_t next_ = 1;  // element 0 is the label
};

enum Shape : std::int64_t { kDisc, kSquare, kDiamond, kRing };

// Whether a point at (x, y) from the centre is on a patch of radius r; the four have about the same area, less the ring's hole.
bool Inside(std::int64_t shape, double x, double y, double r) {
  switch (shape) {
    case kDisc:
      return x * x + y * y <= r * r;
    case kSquare:
      return std::max(std::abs(x), std::abs(y)) <= 0.886 * r;
    case kDiamond:
      return std::abs(x) + std::abs(y) <= 1.253 * r;
    default:
      return x * x + y * y <= r * r && x * x + y * y >= 0.16 * r * r;
  }
}

// A triangle wave of period 1 between -1 and 1.
double Wave(double x) { return 4 * std::abs(x - std::floor(x) - 0.5) - 1; }

Status CheckRange(const char* key, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return OkStatus();
  return InvalidArgument(key, " = ", value, " cannot be generated; use ", least, " .. ", most);
}

std::int64_t Shapes(std::int64_t classes) { return classes <= 6 ? 1 : classes <= 24 ? 2 : 4; }
std::int64_t Wavelengths(std::int64_t classes) { return classes <= 48 ? 1 : 2; }

RandomStream StreamOf(std::uint64_t seed, std::int64_t index) {
  return RandomStream(seed, "data.image", static_cast<std::uint64_t>(index));
}

}  // namespace

StatusOr<ImageGenerator> ImageGenerator::Create(const ImageGeneratorOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckRange("data.images", options.count, 1, std::int64_t{1} << 40));
  LYCIA_RETURN_IF_ERROR(CheckRange("model.height", options.height, kMinSide, kMaxImageSide));
  LYCIA_RETURN_IF_ERROR(CheckRange("model.width", options.width, kMinSide, kMaxImageSide));
  LYCIA_RETURN_IF_ERROR(CheckRange("model.channels", options.channels, 1, kMaxChannels));
  LYCIA_RETURN_IF_ERROR(CheckRange("model.classes", options.classes, 2, kMaxClasses));
  return ImageGenerator(options);
}

std::int64_t ImageGenerator::orientations() const {
  const std::int64_t others = Shapes(options_.classes) * Wavelengths(options_.classes);
  return (options_.classes + others - 1) / others;
}

ImageGenerator::Kind ImageGenerator::KindOf(std::int32_t label) const {
  const std::int64_t rest = label / orientations();
  return {.orientation = label % orientations(), .shape = rest % Shapes(options_.classes), .wavelength = rest / Shapes(options_.classes)};
}

std::int32_t ImageGenerator::Label(std::int64_t index) const {
  LYCIA_CHECK(index >= 0 && index < options_.count) << index << " of " << options_.count << " ";
  const std::uint64_t bits = StreamOf(options_.seed, index).Bits(0);
  return static_cast<std::int32_t>(bits * static_cast<std::uint64_t>(options_.classes) >> 32);
}

void ImageGenerator::Generate(std::int64_t index, std::uint8_t* image) const {
  const auto [orientation, shape, wavelength] = KindOf(Label(index));
  const RandomStream stream = StreamOf(options_.seed, index);
  const auto height = static_cast<double>(options_.height), width = static_cast<double>(options_.width), side = std::min(height, width);
  Draws draws(stream);
  const double radius = side * draws.Next(0.3, 0.45);
  const double center_y = draws.Next(radius, height - radius), center_x = draws.Next(radius, width - radius);
  const double turn = draws.Next(-kTurn, kTurn), phase = draws.Next(0, 1);
  const double angle = std::numbers::pi * (static_cast<double>(orientation) + turn) / static_cast<double>(orientations());
  const double period = std::max(4.0, side / 6) * (wavelength == 0 ? 1.0 : 1.8) * draws.Next(0.9, 1.1);
  const double across_x = -std::sin(angle) / period, across_y = std::cos(angle) / period;  // the stripes run at `angle`
  std::array<double, kMaxChannels> background, middle, contrast;
  const auto channels = static_cast<std::size_t>(options_.channels);
  for (std::size_t c = 0; c < channels; ++c) {
    background[c] = draws.Next(30, 225);
    middle[c] = draws.Next(80, 175);
    contrast[c] = draws.Next(30, 70) * (draws.Next(-1, 1) < 0 ? -1 : 1);
  }
  Philox4 noise{};
  std::uint64_t value = 0;  // counts values of the image; four bytes of noise an element, sixteen a block
  for (std::int64_t row = 0; row < options_.height; ++row) {
    for (std::int64_t column = 0; column < options_.width; ++column) {
      const double y = static_cast<double>(row) + 0.5 - center_y, x = static_cast<double>(column) + 0.5 - center_x;
      const bool inside = Inside(shape, x, y, radius);
      const double wave = inside ? Wave(x * across_x + y * across_y + phase) : 0;
      for (std::size_t c = 0; c < channels; ++c, ++value) {
        if (value % 16 == 0) noise = Philox(stream.key, kFirstNoise / 4 + value / 16, stream.step);
        const std::uint32_t lanes[4] = {noise.x0, noise.x1, noise.x2, noise.x3};
        const double random = static_cast<double>(lanes[value / 4 % 4] >> 8 * (value % 4) & 0xFF) / 127.5 - 1;
        const double level = inside ? middle[c] + contrast[c] * wave + kNoise * random : background[c];
        *image++ = static_cast<std::uint8_t>(std::clamp(level, 0.0, 255.0) + 0.5);
      }
    }
  }
}

}  // namespace lycia
