// Readers must give exactly what the formats say, and refuse whatever does not fit, with the file's name and the numbers.
#include <zlib.h>

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"
#include "launch/data/cifar_file.h"
#include "launch/data/gzip_file.h"
#include "launch/data/idx_file.h"
#include "launch/data/image_files_for_test.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using testing::BigEndian;
using testing::CifarRecord;
using testing::CifarValue;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IdxImages;
using testing::IdxLabels;
using testing::IdxPixel;
using testing::WriteBytes;

// By the zlib of the machine, framed as gzip.
std::string Gzip(const std::string& bytes) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

template <typename Result>
std::string Mistake(const StatusOr<Result>& result) {
  EXPECT_EQ(ExitCode(result.status()), kExitBadInput) << result.status();
  return std::string(result.status().message());
}

TEST(DataFile, WhatPythonPackedIsUnpacked) {
  const TempDirectory folder;
  const std::string packed("\x1f\x8b\x08\0\0\0\0\0\x02\xff\x63\x60\xe0\x60\x64\x60\x60\x60\x66\x62\x60\x04\0\x7c\x58\xc3\x7a\x0b\0\0\0",
                           31);
  const StatusOr<std::string> bytes = ReadDataFile(WriteBytes(folder / "any.name", packed), 100);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, std::string("\0\0\x08\x01\0\0\0\x03\x02\0\x01", 11));
}

TEST(DataFile, MembersOfAnySizeAreJoined) {
  const TempDirectory folder;
  std::string first(3 << 20, 'a'), second = "the end";  // first: a whole number of the reader's parts
  for (std::size_t i = 0; i < first.size(); ++i) first[i] = static_cast<char>(i * i / 7);
  const StatusOr<std::string> bytes = ReadDataFile(WriteBytes(folder / "two.gz", Gzip(first) + Gzip(second)), 1 << 24);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_TRUE(*bytes == first + second);
}

TEST(DataFile, DamageIsFoundAtEveryByte) {
  const TempDirectory folder;
  const std::string packed = Gzip(IdxLabels({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  for (std::size_t bytes = 2; bytes < packed.size(); ++bytes) {
    EXPECT_THAT(Mistake(ReadDataFile(WriteBytes(folder / "cut.gz", packed.substr(0, bytes)), 100)), HasSubstr("cut.gz")) << bytes;
  }
  int harmless = 0;
  for (std::size_t at = 10; at < packed.size(); ++at) {  // after the header, which is not guarded
    std::string damaged = packed;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const StatusOr<std::string> bytes = ReadDataFile(WriteBytes(folder / "damaged.gz", damaged), 1 << 20);
    if (bytes.ok()) {
      EXPECT_EQ(*bytes, IdxLabels({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
      ++harmless;
    } else {
      EXPECT_THAT(Mistake(bytes), HasSubstr("damaged.gz")) << at;
    }
  }
  EXPECT_LE(harmless, 1);  // the bits between the end of the packed data and the next whole byte mean nothing
  EXPECT_THAT(Mistake(ReadDataFile(WriteBytes(folder / "more.gz", packed + "x"), 100)),
              HasSubstr("goes on with something that is not gzip"));
  EXPECT_THAT(Mistake(ReadDataFile(WriteBytes(folder / "bomb.gz", Gzip(std::string(5 << 20, '\0'))), 1 << 20)),
              HasSubstr("unpacks to more"));
  EXPECT_THAT(Mistake(ReadDataFile(folder / "none", 100)), AllOf(HasSubstr("none"), HasSubstr("data.files")));
  EXPECT_THAT(Mistake(ReadDataFile(folder.path(), 100)), HasSubstr(folder.path()));
}

TEST(Idx, PairsAreJoinedWhetherPackedOrNot) {
  const TempDirectory folder;
  const StatusOr<ImageSet> set = ReadIdx(std::vector<std::string>{
      WriteBytes(folder / "a", IdxImages(2, 3, 5)), WriteBytes(folder / "b", IdxLabels({4, 0})),
      WriteBytes(folder / "c.gz", Gzip(IdxImages(3, 3, 5, 2))), WriteBytes(folder / "d.gz", Gzip(IdxLabels({1, 1, 3})))});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->height, 3);
  EXPECT_EQ(set->width, 5);
  EXPECT_EQ(set->channels, 1);
  EXPECT_EQ(set->classes, 5);
  EXPECT_THAT(set->labels, ElementsAre(4, 0, 1, 1, 3));
  ASSERT_EQ(set->pixels.size(), 75u);
  for (std::int64_t i = 0; i < 75; ++i) EXPECT_EQ(set->pixels[static_cast<std::size_t>(i)], IdxPixel(i / 15, i / 5 % 3, i % 5)) << i;
}

TEST(Idx, WhatDoesNotFitIsRefused) {
  const TempDirectory folder;
  const std::string images = WriteBytes(folder / "images", IdxImages(4, 2, 3)),
                    labels = WriteBytes(folder / "labels", IdxLabels({0, 1, 2, 200}));
  const auto mistake = [&](const std::vector<std::string>& files, std::int64_t classes = 0) { return Mistake(ReadIdx(files, classes)); };
  const auto file = [&](const std::string& bytes) { return WriteBytes(folder / "wrong", bytes); };
  EXPECT_TRUE(ReadIdx(std::vector{images, labels}).ok());
  EXPECT_EQ(ReadIdx(std::vector{images, labels}, 201)->classes, 201);
  EXPECT_THAT(mistake({}), HasSubstr("names 0 files"));
  EXPECT_THAT(mistake({images, labels, images}), HasSubstr("names 3 files"));
  EXPECT_THAT(mistake({labels, images}), AllOf(HasSubstr("00000801 instead of 00000803"), HasSubstr("images first")));
  EXPECT_THAT(mistake({file(BigEndian(0x804) + BigEndian(1)), labels}), HasSubstr("00000804 instead of 00000803"));
  EXPECT_THAT(mistake({file(BigEndian(0xD03) + IdxImages(4, 2, 3).substr(4)), labels}), HasSubstr("00000d03"));  // floats
  for (const std::size_t bytes : {0, 1, 3, 4, 15, 16, 39}) {
    EXPECT_THAT(mistake({file(IdxImages(4, 2, 3).substr(0, bytes)), labels}), HasSubstr("wrong")) << bytes;
  }
  EXPECT_THAT(mistake({file(IdxImages(4, 2, 3).substr(0, 39)), labels}), HasSubstr("holds 23 values, but its header says 24"));
  EXPECT_THAT(mistake({file(IdxImages(4, 2, 3) + "x"), labels}), HasSubstr("holds 25 values"));
  EXPECT_THAT(mistake({images, file(IdxLabels({0, 1, 2}))}), AllOf(HasSubstr("4 images"), HasSubstr("3 labels")));
  EXPECT_THAT(mistake({images, file(IdxLabels({}))}), HasSubstr("holds 0"));
  EXPECT_THAT(mistake({file(IdxImages(4, 0, 3)), labels}), HasSubstr("4 of 0 x 3"));
  const std::string huge = BigEndian(0x803) + BigEndian(0xFFFFFFFF) + BigEndian(0xFFFFFFFF) + BigEndian(0xFFFFFFFF);
  EXPECT_THAT(mistake({file(huge), labels}), HasSubstr("4294967295"));
  EXPECT_THAT(mistake({file(BigEndian(0x803) + BigEndian(0xFFFFFFFF) + BigEndian(16384) + BigEndian(16384)), labels}),
              HasSubstr("holds 0 values"));
  EXPECT_THAT(mistake({images, labels, file(IdxImages(4, 3, 2)), labels}), AllOf(HasSubstr("3 x 2"), HasSubstr("2 x 3")));
  EXPECT_THAT(mistake({images, labels}, 200), AllOf(HasSubstr("label 200 of image 3"), HasSubstr("model.classes = 200")));
  EXPECT_THAT(mistake({folder / "nothing", labels}), HasSubstr("nothing"));
}

TEST(CifarFiles, PlanesBecomeChannelsLastAndTheFineLabelCounts) {
  const TempDirectory folder;
  const StatusOr<ImageSet> ten = ReadCifar(Cifar::k10, std::vector{WriteBytes(folder / "1.bin", CifarRecord({9}, 0) + CifarRecord({0}, 1)),
                                                                   WriteBytes(folder / "2.bin", Gzip(CifarRecord({3}, 2)))});
  const StatusOr<ImageSet> hundred =
      ReadCifar(Cifar::k100,
                std::vector{WriteBytes(folder / "train.bin", CifarRecord({19, 99}, 0) + CifarRecord({0, 1}, 1) + CifarRecord({7, 0}, 2))});
  ASSERT_TRUE(ten.ok() && hundred.ok()) << ten.status() << hundred.status();
  EXPECT_THAT(ten->labels, ElementsAre(9, 0, 3));
  EXPECT_THAT(hundred->labels, ElementsAre(99, 1, 0));
  EXPECT_EQ(ten->classes, 10);
  EXPECT_EQ(hundred->classes, 100);
  for (const ImageSet* set : {&*ten, &*hundred}) {
    ASSERT_EQ(set->pixels.size(), 3u * 32 * 32 * 3);
    std::size_t at = 0;
    for (std::int64_t image = 0; image < 3; ++image) {
      for (std::int64_t pixel = 0; pixel < 1024; ++pixel) {
        for (std::int64_t channel = 0; channel < 3; ++channel, ++at) {
          ASSERT_EQ(set->pixels[at], CifarValue(image, pixel / 32, pixel % 32, channel)) << at;
        }
      }
    }
  }
}

TEST(CifarFiles, WhatDoesNotFitIsRefused) {
  const TempDirectory folder;
  const auto mistake = [&](Cifar kind, const std::string& bytes) {
    return Mistake(ReadCifar(kind, std::vector{WriteBytes(folder / "wrong.bin", bytes)}));
  };
  EXPECT_THAT(Mistake(ReadCifar(Cifar::k10, {})), HasSubstr("data.files is empty"));
  EXPECT_THAT(mistake(Cifar::k10, ""), HasSubstr("has 0 bytes"));
  EXPECT_THAT(mistake(Cifar::k10, CifarRecord({1}, 0) + "x"), AllOf(HasSubstr("wrong.bin has 3074 bytes"), HasSubstr("3073")));
  EXPECT_THAT(mistake(Cifar::k10, CifarRecord({1}, 0).substr(1)), HasSubstr("3072 bytes"));
  EXPECT_THAT(mistake(Cifar::k100, CifarRecord({1}, 0)), HasSubstr("CIFAR-100"));
  EXPECT_THAT(mistake(Cifar::k10, CifarRecord({9}, 0) + CifarRecord({10}, 1)), HasSubstr("label 10 of image 1 is not below 10"));
  EXPECT_THAT(mistake(Cifar::k100, CifarRecord({0, 100}, 0)), HasSubstr("label 100 of image 0 is not below 100"));
  EXPECT_THAT(mistake(Cifar::k100, CifarRecord({20, 5}, 0)), HasSubstr("coarse label 20 of image 0 is not below 20"));
}

// The published test set: how often each digit occurs, its first labels, and the mean of its pixels.
TEST(Idx, Mnist) {
  const char* folder = std::getenv("LYCIA_MNIST");
  if (folder == nullptr) {
    GTEST_SKIP()
        << "SKIPPED: set LYCIA_MNIST to a folder with t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz to read the real files";
  }
  const std::string base = folder;
  const StatusOr<ImageSet> set = ReadIdx(std::vector{base + "/t10k-images-idx3-ubyte.gz", base + "/t10k-labels-idx1-ubyte.gz"});
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->count(), 10000);
  EXPECT_EQ(set->image_bytes(), 28 * 28);
  EXPECT_EQ(set->classes, 10);
  EXPECT_THAT(std::vector(set->labels.begin(), set->labels.begin() + 10), ElementsAre(7, 2, 1, 0, 4, 1, 4, 9, 5, 9));
  std::vector<int> histogram(10);
  for (const std::int32_t label : set->labels) ++histogram[static_cast<std::size_t>(label)];
  EXPECT_THAT(histogram, ElementsAre(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009));
  double sum = 0;
  for (const std::uint8_t pixel : set->pixels) sum += pixel;
  EXPECT_NEAR(sum / static_cast<double>(set->pixels.size()) / 255, 0.1325, 1e-4);
}

}  // namespace
}  // namespace lycia
