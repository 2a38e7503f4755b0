// A class must be visible to whoever looks for stripes, and invisible to whoever compares single pixels.
#include "launch/data/image_generator.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

ImageGenerator Make(const ImageGeneratorOptions& options) {
  const StatusOr<ImageGenerator> generator = ImageGenerator::Create(options);
  EXPECT_TRUE(generator.ok()) << generator.status();
  return *generator;
}

std::vector<std::uint8_t> ImageOf(const ImageGenerator& generator, std::int64_t index) {
  const ImageGeneratorOptions& options = generator.options();
  std::vector<std::uint8_t> image(static_cast<std::size_t>(options.height * options.width * options.channels) + 1, 77);
  generator.Generate(index, image.data());
  EXPECT_EQ(image.back(), 77) << "written beyond the end";
  image.pop_back();
  return image;
}

// The angle along which stripes run, in [0, pi): where the grey level changes least, by the structure tensor of central differences.
double StripeAngle(const ImageGeneratorOptions& options, const std::vector<std::uint8_t>& image) {
  const auto at = [&](std::int64_t h, std::int64_t w, std::int64_t c) {
    return static_cast<double>(image[static_cast<std::size_t>((h * options.width + w) * options.channels + c)]);
  };
  double xx = 0, xy = 0, yy = 0;
  for (std::int64_t h = 1; h + 1 < options.height; ++h) {
    for (std::int64_t w = 1; w + 1 < options.width; ++w) {
      for (std::int64_t c = 0; c < options.channels; ++c) {
        const double x = at(h, w + 1, c) - at(h, w - 1, c), y = at(h + 1, w, c) - at(h - 1, w, c);
        xx += x * x, xy += x * y, yy += y * y;
      }
    }
  }
  const double steepest = 0.5 * std::atan2(2 * xy, xx - yy);
  return std::fmod(steepest + 1.5 * std::numbers::pi, std::numbers::pi);
}

TEST(ImageGenerator, StripesTellTheClass) {
  for (const std::int64_t side : {28, 64}) {
    const ImageGenerator generator = Make({.count = 400, .height = side, .width = side + 3, .channels = 3, .classes = 6, .seed = 5});
    int right = 0;
    for (std::int64_t i = 0; i < 400; ++i) {
      const double angle = StripeAngle(generator.options(), ImageOf(generator, i));
      right += static_cast<std::int32_t>(std::lround(angle / std::numbers::pi * 6)) % 6 == generator.Label(i);
    }
    EXPECT_GT(right, 340) << "side " << side;  // chance: 67
  }
}

TEST(ImageGenerator, SinglePixelsDoNotTellTheClass) {
  const ImageGenerator generator = Make({.count = 1500, .height = 16, .width = 16, .channels = 1, .classes = 6, .seed = 5});
  std::vector<std::vector<double>> means(6, std::vector<double>(256));
  std::vector<double> counts(6);
  for (std::int64_t i = 0; i < 1000; ++i) {
    const auto image = ImageOf(generator, i);
    const auto label = static_cast<std::size_t>(generator.Label(i));
    ++counts[label];
    for (std::size_t p = 0; p < 256; ++p) means[label][p] += image[p];
  }
  int right = 0;
  for (std::int64_t i = 1000; i < 1500; ++i) {
    const auto image = ImageOf(generator, i);
    std::vector<double> distances;
    for (std::size_t k = 0; k < 6; ++k) {
      double sum = 0;
      for (std::size_t p = 0; p < 256; ++p) sum += std::pow(image[p] - means[k][p] / counts[k], 2);
      distances.push_back(sum);
    }
    right += std::min_element(distances.begin(), distances.end()) - distances.begin() == generator.Label(i);
  }
  EXPECT_LT(right, 150);  // chance: 83 of 500
}

TEST(ImageGenerator, ClassesAreAllDifferentAndOccurAboutEquallyOften) {
  for (const std::int64_t classes : {2, 6, 7, 10, 24, 25, 48, 49, 100, 128}) {
    const ImageGenerator generator = Make({.count = 200 * classes, .classes = classes});
    std::vector<std::vector<std::int64_t>> kinds;
    for (std::int32_t k = 0; k < classes; ++k) {
      const auto [orientation, shape, wavelength] = generator.KindOf(k);
      EXPECT_TRUE(orientation < generator.orientations() && shape < 4 && wavelength < 2) << k << " of " << classes;
      kinds.push_back({orientation, shape, wavelength});
    }
    std::sort(kinds.begin(), kinds.end());
    EXPECT_EQ(std::adjacent_find(kinds.begin(), kinds.end()), kinds.end()) << classes;
    std::vector<int> counts(static_cast<std::size_t>(classes));
    for (std::int64_t i = 0; i < 200 * classes; ++i) ++counts[static_cast<std::size_t>(generator.Label(i))];
    EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 130) << classes;  // five standard deviations below 200
    EXPECT_LT(*std::max_element(counts.begin(), counts.end()), 270) << classes;
  }
}

TEST(ImageGenerator, AnImageIsAFunctionOfSeedAndIndex) {
  for (const std::int64_t channels : {1, 3, 5, 16}) {
    const ImageGeneratorOptions options{.count = 50, .height = 9, .width = 13, .channels = channels, .classes = 4, .seed = 3};
    const ImageGenerator one = Make(options), again = Make(options);
    ImageGeneratorOptions other_options = options;
    other_options.seed = 4;
    const ImageGenerator other = Make(other_options);
    for (const std::int64_t i : {49, 0, 7}) {
      EXPECT_EQ(ImageOf(one, i), ImageOf(again, i));
      EXPECT_NE(ImageOf(one, i), ImageOf(other, i));
    }
    EXPECT_NE(ImageOf(one, 0), ImageOf(one, 1));
  }
}

// Computation reuse lives on it: around the patch all pixels are equal.
TEST(ImageGenerator, TheBackgroundIsFlat) {
  const ImageGenerator generator = Make({.count = 30, .height = 40, .width = 40, .channels = 3, .classes = 10, .seed = 2});
  for (std::int64_t i = 0; i < 30; ++i) {
    const auto image = ImageOf(generator, i);
    std::vector<std::uint32_t> pixels;
    for (std::size_t p = 0; p < image.size(); p += 3) pixels.push_back(image[p] | image[p + 1] << 8 | image[p + 2] << 16);
    std::sort(pixels.begin(), pixels.end());
    std::size_t longest = 0, run = 0;
    for (std::size_t p = 0; p < pixels.size(); ++p) {
      run = p > 0 && pixels[p] == pixels[p - 1] ? run + 1 : 1;
      longest = std::max(longest, run);
    }
    EXPECT_GT(longest, 1600u * 3 / 10) << i;  // the largest patch covers 64 % of the square
    EXPECT_LT(longest, 1600u * 9 / 10) << i;
  }
}

TEST(ImageGenerator, SizesItCannotMakeAreRefused) {
  const auto mistake = [](const ImageGeneratorOptions& options) {
    const Status status = ImageGenerator::Create(options).status();
    EXPECT_EQ(ExitCode(status), kExitBadInput) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(mistake({}), HasSubstr("data.images = 0"));
  EXPECT_THAT(mistake({.count = 1, .height = 7}), HasSubstr("model.height = 7 cannot be generated; use 8 .."));
  EXPECT_THAT(mistake({.count = 1, .width = 1 << 20}), HasSubstr("model.width"));
  EXPECT_THAT(mistake({.count = 1, .channels = 17}), HasSubstr("model.channels = 17"));
  EXPECT_THAT(mistake({.count = 1, .classes = 1}), HasSubstr("model.classes = 1"));
}

}  // namespace
}  // namespace lycia
