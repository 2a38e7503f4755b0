// Samples must be a pure function of (seed, step, sample), every epoch must show every training image once, and held-out images never
// train.
#include "launch/data/image_data.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"
#include "launch/data/image_files_for_test.h"
#include "runtime/device/testing/count_allocations.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IdxImages;
using testing::IdxLabels;
using testing::IdxPixel;
using testing::WriteBytes;

using Bytes = std::vector<std::uint8_t>;
using Labels = std::vector<std::int32_t>;

// `count` images of 8 x 16 whose label is their number modulo 7.
ImageDataOptions IdxOptions(const TempDirectory& folder, int count) {
  std::vector<int> labels;
  for (int i = 0; i < count; ++i) labels.push_back(i % 7);
  return {.format = "idx",
          .files = {WriteBytes(folder / "images", IdxImages(count, 8, 16)), WriteBytes(folder / "labels", IdxLabels(labels))},
          .held_out = 0.25,
          .batch = 3,
          .seed = 11};
}

ImageData Open(const ImageDataOptions& options) {
  StatusOr<ImageData> data = ImageData::Open(options);
  EXPECT_TRUE(data.ok()) << data.status();
  return *std::move(data);
}

std::pair<Bytes, Labels> Loaded(const ImageData& data, std::int64_t step, std::int64_t first, std::int64_t count) {
  Bytes images(static_cast<std::size_t>(count * data.height() * data.width() * data.channels()), 1);
  Labels labels(static_cast<std::size_t>(count), -7);
  data.Load(step, first, count, images.data(), labels.data());
  return {images, labels};
}

TEST(ImageData, EveryEpochShowsEveryTrainingImageOnce) {
  const TempDirectory folder;
  for (const std::int64_t batch : {1, 3, 8, 30, 100}) {
    ImageDataOptions options = IdxOptions(folder, 40);
    options.batch = batch;
    const ImageData data = Open(options);
    ASSERT_EQ(data.training_images(), 30);
    ASSERT_EQ(data.held_out_images(), 10);
    std::vector<std::vector<std::int64_t>> epochs(4);
    for (std::int64_t number = 0; number < 120; ++number) {
      epochs[static_cast<std::size_t>(number / 30)].push_back(data.Image(number / batch, number % batch));
    }
    EXPECT_NE(epochs[0], epochs[1]);
    for (auto& epoch : epochs) {
      EXPECT_FALSE(std::is_sorted(epoch.begin(), epoch.end()));
      std::sort(epoch.begin(), epoch.end());
      for (std::int64_t i = 0; i < 30; ++i) ASSERT_EQ(epoch[static_cast<std::size_t>(i)], i) << "batch " << batch;
    }
  }
}

TEST(ImageData, ImagesCarryTheirOwnPixelsAndLabels) {
  const TempDirectory folder;
  const ImageData data = Open(IdxOptions(folder, 40));
  EXPECT_EQ(data.classes(), 7);
  for (std::int64_t step = 0; step < 25; ++step) {
    const auto [images, labels] = Loaded(data, step, 0, 3);
    for (std::int64_t sample = 0; sample < 3; ++sample) {
      const std::int64_t index = data.Image(step, sample);
      ASSERT_EQ(labels[static_cast<std::size_t>(sample)], index % 7);
      for (std::int64_t i = 0; i < 128; ++i) ASSERT_EQ(images[static_cast<std::size_t>(sample * 128 + i)], IdxPixel(index, i / 16, i % 16));
    }
  }
}

// However the global batch is cut among ranks and micro-batches, with augmentation and without.
TEST(ImageData, ASampleDoesNotDependOnWhoLoadsIt) {
  const TempDirectory folder;
  for (const bool generated : {false, true}) {
    for (const bool augmented : {false, true}) {
      ImageDataOptions options = IdxOptions(folder, 40);
      if (generated) {
        options = {.format = "generated", .batch = 24, .classes = 4, .count = 37, .height = 8, .width = 16, .channels = 2};
      }
      options.batch = 24;
      options.shift = augmented ? 1 : 0;
      options.mirror = augmented;
      const ImageData data = Open(options);
      const std::int64_t image_bytes = data.height() * data.width() * data.channels();
      for (const std::int64_t step : {0, 5}) {
        const auto [images, labels] = Loaded(data, step, 0, 24);
        for (const std::int64_t part : {1, 2, 3, 8, 12}) {
          for (std::int64_t first = 24 - part; first >= 0; first -= part) {
            const auto [some_images, some_labels] = Loaded(data, step, first, part);
            ASSERT_TRUE(std::equal(some_images.begin(), some_images.end(), images.begin() + first * image_bytes));
            ASSERT_TRUE(std::equal(some_labels.begin(), some_labels.end(), labels.begin() + first));
            Bytes only_images(some_images.size());
            Labels only_labels(some_labels.size());
            data.Load(step, first, part, only_images.data(), nullptr);
            data.Load(step, first, part, nullptr, only_labels.data());
            ASSERT_EQ(only_images, some_images);
            ASSERT_EQ(only_labels, some_labels);
          }
        }
      }
      // The same number of the sequence by another batch size.
      options.batch = 8;
      EXPECT_EQ(Loaded(Open(options), 3 * 5 + 1, 2, 4), Loaded(data, 5, 10, 4));
      options.seed += 1;
      EXPECT_NE(Loaded(Open(options), 0, 0, 8), Loaded(data, 0, 0, 8));
    }
  }
}

// Every loaded image is its original moved by -1 .. 1 along each axis, mirrored or not; all 18 variants occur, about equally often.
TEST(ImageData, AugmentationDrawsEveryVariantEquallyOften) {
  const TempDirectory folder;
  ImageDataOptions options = IdxOptions(folder, 4);
  options.shift = 1, options.mirror = true;
  const ImageData data = Open(options);
  const auto pixel = [](std::int64_t index, std::int64_t h, std::int64_t w) {
    return h < 0 || h >= 8 || w < 0 || w >= 16 ? std::uint8_t{0} : IdxPixel(index, h, w);
  };
  std::vector<int> counts(18);
  for (std::int64_t step = 0; step < 1200; ++step) {
    const auto [images, labels] = Loaded(data, step, 0, 3);
    for (std::int64_t sample = 0; sample < 3; ++sample) {
      const std::int64_t index = data.Image(step, sample);
      int matches = 0;
      for (std::int64_t variant = 0; variant < 18; ++variant) {
        const std::int64_t down = variant % 3 - 1, right = variant / 3 % 3 - 1;
        bool equal = true;
        for (std::int64_t i = 0; i < 128 && equal; ++i) {
          const std::int64_t h = i / 16 - down, w = i % 16 - right;
          const bool inside = w >= 0 && w < 16;
          equal = images[static_cast<std::size_t>(sample * 128 + i)] == (inside ? pixel(index, h, variant < 9 ? w : 15 - w) : 0);
        }
        if (equal) ++counts[static_cast<std::size_t>(variant)], ++matches;
      }
      ASSERT_EQ(matches, 1);
    }
  }
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 130);  // five standard deviations below 200
  EXPECT_LT(*std::max_element(counts.begin(), counts.end()), 270);
  options.mirror = false;
  const ImageData moved = Open(options);
  Bytes held_out(128);
  moved.LoadHeldOut(0, 1, held_out.data(), nullptr);
  for (std::int64_t i = 0; i < 128; ++i) ASSERT_EQ(held_out[static_cast<std::size_t>(i)], IdxPixel(3, i / 16, i % 16));
}

TEST(ImageData, EvaluationShowsEveryHeldOutImageOnce) {
  const TempDirectory folder;
  const ImageData data = Open(IdxOptions(folder, 40));
  Bytes images(14 * 128, 9);
  Labels labels(14, 9);
  data.LoadHeldOut(0, 5, images.data(), labels.data());
  data.LoadHeldOut(5, 9, images.data() + 5 * 128, nullptr);
  data.LoadHeldOut(5, 9, nullptr, labels.data() + 5);
  for (std::int64_t i = 0; i < 14; ++i) {
    EXPECT_EQ(labels[static_cast<std::size_t>(i)], i < 10 ? (30 + i) % 7 : kIgnoredLabel);
    for (std::int64_t p = 0; p < 128; ++p) {
      ASSERT_EQ(images[static_cast<std::size_t>(i * 128 + p)], i < 10 ? IdxPixel(30 + i, p / 16, p % 16) : 0);
    }
  }
  EXPECT_EQ(data.HeldOutLabels(0, 5), 5);
  EXPECT_EQ(data.HeldOutLabels(5, 9), 5);
  EXPECT_EQ(data.HeldOutLabels(10, 4), 0);
  EXPECT_EQ(data.HeldOutLabels(14, 4), 0);
}

TEST(ImageData, FoldsHoldEveryImageOutOnce) {
  const TempDirectory folder;
  std::vector<int> held_out(40), trained(40);
  for (std::int64_t fold = 0; fold < 4; ++fold) {
    ImageDataOptions options = IdxOptions(folder, 40);
    options.fold = fold;
    const ImageData data = Open(options);
    Bytes images(10 * 128);
    data.LoadHeldOut(0, 10, images.data(), nullptr);
    for (std::int64_t i = 0; i < 10; ++i) {
      const std::int64_t number = 30 - 10 * fold + i;
      ASSERT_EQ(images[static_cast<std::size_t>(i * 128)], IdxPixel(number, 0, 0)) << "fold " << fold;
      ++held_out[static_cast<std::size_t>(number)];
    }
    const auto [epoch, labels] = Loaded(data, 0, 0, 30);
    for (int number = 0; number < 40; ++number) {
      for (std::int64_t i = 0; i < 30; ++i) {
        bool same = true;
        for (std::int64_t p = 0; p < 128; ++p)
          same = same && epoch[static_cast<std::size_t>(i * 128 + p)] == IdxPixel(number, p / 16, p % 16);
        if (same) ++trained[static_cast<std::size_t>(number)];
      }
    }
  }
  EXPECT_EQ(held_out, std::vector<int>(40, 1));
  EXPECT_EQ(trained, std::vector<int>(40, 3));
  ImageDataOptions options = IdxOptions(folder, 40);
  options.fold = 4;
  EXPECT_THAT(std::string(ImageData::Open(options).status().message()), HasSubstr("use a fold below 4"));
}

TEST(ImageData, MeanAndDeviationAreThoseOfTheTrainingPart) {
  const TempDirectory folder;
  const ImageDataOptions generated{
      .format = "generated", .held_out = 0.3, .batch = 2, .classes = 5, .count = 23, .height = 9, .width = 11, .channels = 4};
  for (const ImageDataOptions& options : {IdxOptions(folder, 40), generated}) {
    const ImageData data = Open(options);
    const auto channels = static_cast<std::size_t>(data.channels());
    ASSERT_EQ(data.mean().size(), channels);
    ImageDataOptions one = options;  // a batch is an epoch
    one.batch = data.training_images();
    const auto [images, labels] = Loaded(Open(one), 0, 0, one.batch);
    for (std::size_t c = 0; c < channels; ++c) {
      double sum = 0, squares = 0;
      const double values = static_cast<double>(images.size() / channels);
      for (std::size_t i = c; i < images.size(); i += channels) sum += images[i] / 255.0;
      for (std::size_t i = c; i < images.size(); i += channels) squares += std::pow(images[i] / 255.0 - sum / values, 2);
      EXPECT_NEAR(data.mean()[c], sum / values, 1e-12);
      EXPECT_NEAR(data.deviation()[c], std::sqrt(squares / values), 1e-12);
    }
  }
  ImageDataOptions black = IdxOptions(folder, 4);
  std::string bytes = IdxImages(4, 8, 16);
  std::fill(bytes.begin() + 16, bytes.end(), '\xff');
  black.files[0] = WriteBytes(folder / "white", bytes);
  EXPECT_EQ(Open(black).mean()[0], 1);
  EXPECT_EQ(Open(black).deviation()[0], 0);
}

// More than kKeptBytes are made when they are loaded, fewer once; the images are the same.
TEST(ImageData, GeneratedImagesDoNotDependOnWhereTheyAreKept) {
  ImageDataOptions options{.format = "generated", .batch = 4, .classes = 10, .count = 1000, .height = 224, .width = 224};
  ASSERT_GT(options.count * options.height * options.width * options.channels, ImageData::kKeptBytes);
  const ImageData large = Open(options);
  const StatusOr<ImageGenerator> generator =
      ImageGenerator::Create({.count = 1000, .height = 224, .width = 224, .channels = 3, .classes = 10, .seed = 1});
  ASSERT_TRUE(generator.ok());
  const auto [images, labels] = Loaded(large, 3, 1, 2);
  Bytes expected(224 * 224 * 3);
  generator->Generate(large.Image(3, 2), expected.data());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), images.begin() + 224 * 224 * 3));
  EXPECT_EQ(labels[1], generator->Label(large.Image(3, 2)));
  options.count = 400;
  ASSERT_LT(options.count * options.height * options.width * options.channels, ImageData::kKeptBytes);
  const ImageData small = Open(options);
  generator->Generate(small.Image(0, 0), expected.data());
  EXPECT_TRUE(Loaded(small, 0, 0, 1).first == expected);
}

TEST(ImageData, LoadingAllocatesNothing) {
  const TempDirectory folder;
  ImageDataOptions files = IdxOptions(folder, 40);
  files.shift = 1, files.mirror = true;
  const ImageDataOptions generated{.format = "generated", .batch = 3, .classes = 10, .count = 1 << 20, .height = 32, .width = 32};
  for (const ImageDataOptions& options : {files, generated}) {
    const ImageData data = Open(options);
    Bytes images(static_cast<std::size_t>(3 * data.height() * data.width() * data.channels()));
    Labels labels(3);
    const std::int64_t before = testing::AllocationsOfThisThread();
    for (std::int64_t step = 0; step < 20; ++step) data.Load(step, 0, 3, images.data(), labels.data());
    data.LoadHeldOut(0, 3, images.data(), labels.data());
    EXPECT_EQ(testing::AllocationsOfThisThread(), before);
  }
}

TEST(ImageData, BadInputIsRefusedWithItsNumbers) {
  const TempDirectory folder;
  const auto mistake = [](const ImageDataOptions& options) {
    const Status status = ImageData::Open(options).status();
    EXPECT_EQ(ExitCode(status), kExitBadInput) << status;
    return std::string(status.message());
  };
  const ImageDataOptions good = IdxOptions(folder, 40);
  const auto with = [&](auto change) {
    ImageDataOptions options = good;
    change(options);
    return options;
  };
  EXPECT_THAT(mistake(with([](auto& o) { o.format = "png"; })), AllOf(HasSubstr("\"png\" is unknown"), HasSubstr("cifar100")));
  EXPECT_THAT(mistake(with([](auto& o) { o.shift = 2; })), AllOf(HasSubstr("data.shift = 2"), HasSubstr("8 x 16"), HasSubstr("0 .. 1")));
  EXPECT_THAT(mistake(with([](auto& o) { o.shift = -1; })), HasSubstr("data.shift = -1"));
  EXPECT_THAT(mistake(with([](auto& o) { o.held_out = 0.01; })), AllOf(HasSubstr("data.held_out = 0.01 of 40"), HasSubstr("evaluate")));
  for (const double fraction : {1.0, -0.1, std::nan("")}) {
    EXPECT_THAT(mistake(with([&](auto& o) { o.held_out = fraction; })), HasSubstr("is no fraction"));
  }
  EXPECT_THAT(mistake(with([](auto& o) { o.classes = 6; })), HasSubstr("model.classes = 6"));
  EXPECT_THAT(mistake(with([](auto& o) { o.format = "cifar10"; })), HasSubstr("CIFAR-10 file"));
  EXPECT_THAT(mistake(with([](auto& o) { o.format = "generated"; })), HasSubstr("generated images have none"));
  EXPECT_THAT(mistake({.format = "generated", .classes = 3}), HasSubstr("data.images = 0"));
  const std::string records = WriteBytes(folder / "c.bin", testing::CifarRecord({1}, 0) + testing::CifarRecord({2}, 1));
  EXPECT_THAT(mistake({.format = "cifar10", .files = {records}, .held_out = 0, .classes = 100}), HasSubstr("has 10"));
  EXPECT_TRUE(ImageData::Open({.format = "cifar10", .files = {records}, .held_out = 0.5}).ok());
}

TEST(ImageData, Mnist) {
  const char* folder = std::getenv("LYCIA_MNIST");
  if (folder == nullptr) {
    GTEST_SKIP()
        << "SKIPPED: set LYCIA_MNIST to a folder with t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz to read the real files";
  }
  const std::string base = folder;
  const ImageData data = Open(
      {.format = "idx", .files = {base + "/t10k-images-idx3-ubyte.gz", base + "/t10k-labels-idx1-ubyte.gz"}, .held_out = 0, .batch = 100});
  EXPECT_NEAR(data.mean()[0], 0.1325, 1e-4);
  EXPECT_NEAR(data.deviation()[0], 0.3105, 1e-4);
  Labels histogram(10);
  for (std::int64_t step = 0; step < 100; ++step) {
    for (const std::int32_t label : Loaded(data, step, 0, 100).second) ++histogram[static_cast<std::size_t>(label)];
  }
  EXPECT_EQ(histogram, (Labels{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}));
}

}  // namespace
}  // namespace lycia
