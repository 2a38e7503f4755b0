#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/io/checksum.h"
#include "runtime/io/safetensors.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

// The bytes, written out by hand from the format's description.
TEST(SafetensorsWriteTest, GoldenBytes) {
  TempDirectory dir;
  const float b[2] = {1.0f, -2.0f};
  const std::int64_t i[1] = {5};
  const std::uint8_t a[3] = {7, 8, 9};
  const std::vector<TensorSource> sources = {{"uint8", {DType::kU8, {3}}, a, {}},
                                             {"b", {DType::kF32, {1, 2}}, b, {}},
                                             {"a", {DType::kF32, {0}}, nullptr, {}},
                                             {"i", {DType::kI64, {}}, i, {}}};
  const auto summary = WriteSafetensors(dir / "f", sources, {{"format", "pt"}});
  ASSERT_TRUE(summary.ok()) << summary.status();
  std::string json =
      "{\"__metadata__\":{\"format\":\"pt\"},\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
      "\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},"
      "\"uint8\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]}}";
  ASSERT_EQ(json.size(), 251u);
  json += "     ";  // to 256 = 0x100
  const std::string expected = std::string("\0\x01\0\0\0\0\0\0", 8) + json + std::string("\x05\0\0\0\0\0\0\0", 8) +
                               std::string("\0\0\x80\x3F\0\0\0\xC0", 8) + "\x07\x08\x09";
  const std::string bytes = *ReadFile(dir / "f", 1000);
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(summary->bytes, static_cast<std::int64_t>(expected.size()));
  EXPECT_EQ(summary->checksum, ChecksumOf(expected.data(), summary->bytes));
  EXPECT_EQ(summary->tensor_checksums[0], ChecksumOf(a, 3));
  EXPECT_EQ(summary->tensor_checksums[2], ChecksumOf("", 0));
}

TEST(SafetensorsWriteTest, EveryTypeRoundTripsAndAnyRangeReads) {
  TempDirectory dir;
  std::vector<unsigned char> data(8 * 24);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<unsigned char>(i * 37 + 11);
  std::vector<TensorSource> sources;
  for (DType dtype : {DType::kU8, DType::kI32, DType::kI64, DType::kBF16, DType::kF16, DType::kF32, DType::kF64}) {
    sources.push_back({std::string("t/") + std::string(Name(dtype)) + " \"\n\xC3\xA9", {dtype, {2, 3, 4}}, data.data(), {}});
  }
  ASSERT_TRUE(WriteSafetensors(dir / "f", sources).ok());
  const auto file = SafetensorsFile::Open(dir / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  for (const TensorSource& source : sources) {
    const TensorView* view = file->Find(source.name);
    ASSERT_NE(view, nullptr) << source.name;
    EXPECT_EQ(view->dtype, source.spec.dtype);
    EXPECT_EQ(view->shape, source.spec.shape);
    for (std::int64_t begin = 0; begin <= 24; begin += 5) {
      std::vector<unsigned char> to(8 * 24, 0);
      ASSERT_TRUE(file->Read(*view, begin, 24, to.data()).ok());
      const std::int64_t size = SizeOf(source.spec.dtype);
      EXPECT_EQ(std::memcmp(to.data(), data.data() + begin * size, static_cast<std::size_t>((24 - begin) * size)), 0);
    }
  }
}

TEST(SafetensorsWriteTest, StreamsWithoutHoldingTheTensor) {
  TempDirectory dir;
  const std::int64_t elements = 5'000'000;  // 20 MB, several blocks
  std::int64_t largest = 0, expected_next = 0;
  TensorSource source{"big", {DType::kI32, {elements}}, nullptr, [&](std::int64_t first, std::int64_t bytes, void* to) {
                        EXPECT_EQ(first, expected_next);
                        expected_next = first + bytes;
                        largest = std::max(largest, bytes);
                        auto* values = static_cast<std::int32_t*>(to);
                        for (std::int64_t k = 0; k < bytes / 4; ++k) values[k] = static_cast<std::int32_t>(first / 4 + k);
                        return OkStatus();
                      }};
  ASSERT_TRUE(WriteSafetensors(dir / "f", {source}).ok());
  EXPECT_LT(largest, elements * 4);
  const auto file = SafetensorsFile::Open(dir / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  std::int32_t value = 0;
  ASSERT_TRUE(file->Read(file->tensors()[0], elements - 1, elements, &value).ok());
  EXPECT_EQ(value, elements - 1);
  source.read = [](std::int64_t, std::int64_t, void*) { return absl::UnavailableError("the source broke"); };
  EXPECT_THAT(std::string(WriteSafetensors(dir / "g", {source}).status().message()), HasSubstr("the source broke"));
  EXPECT_EQ(ListDirectory(dir.path())->size(), 1u);
}

TEST(SafetensorsWriteTest, NeverWritesWhatAReaderRefuses) {
  TempDirectory dir;
  const float x[1] = {0};
  const TensorSpec spec{DType::kF32, {1}};
  EXPECT_THAT(std::string(WriteSafetensors(dir / "f", {{"a", spec, x, {}}, {"a", spec, x, {}}}).status().message()), HasSubstr("twice"));
  EXPECT_THAT(std::string(WriteSafetensors(dir / "f", {{"\xFF", spec, x, {}}}).status().message()), HasSubstr("UTF-8"));
  EXPECT_FALSE(WriteSafetensors(dir / "f", {{std::string(1025, 'n'), spec, x, {}}}).ok());
  EXPECT_FALSE(WriteSafetensors(dir / "f", {{"", spec, x, {}}}).ok());
  EXPECT_FALSE(WriteSafetensors(dir / "f", {{"a", {DType::kF32, {std::int64_t{1} << 62, 4}}, x, {}}}).ok());
  EXPECT_TRUE(ListDirectory(dir.path())->empty());
}

}  // namespace
}  // namespace lycia
