#include "runtime/io/safetensors.h"

#include <unistd.h>

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string FileBytes(std::string json, std::int64_t data_bytes) {
  const std::uint64_t length = json.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + json + std::string(static_cast<std::size_t>(data_bytes), '\1');
}

struct BadFile {
  const char* what;
  std::string bytes;
  const char* reason;
};

// One file for every rule of the format, and for every trap known from parsers of such files.
std::vector<BadFile> BadFiles() {
  const auto entry = [](const char* fields, std::int64_t data) { return FileBytes(std::string("{\"t\":{") + fields + "}}", data); };
  std::string huge = FileBytes("{}", 0);
  huge[7] = '\x7F';
  std::string over_cap = FileBytes("{}", 0);
  over_cap[3] = '\x06';  // 100,663,298 bytes
  const std::string name(1025, 'n');
  return {
      {"no length", "1234567", "too few"},
      {"length beyond the cap", over_cap, "above the limit"},
      {"length near 2^63", huge, "above the limit"},
      {"header longer than the file", FileBytes("{}", 0).substr(0, 9), "truncated"},
      {"leading space", FileBytes(" {}", 0), "does not begin with '{'"},
      {"empty header", FileBytes("", 0), "does not begin with '{'"},
      {"not JSON", FileBytes("{\"t\":", 0), "bad JSON"},
      {"bytes after the JSON", FileBytes("{}{}", 0), "bad JSON"},
      {"NUL padding", FileBytes(std::string("{}\0\0", 4), 0), "NUL at byte 2"},
      {"too deep", FileBytes("{\"t\":{\"shape\":[[1]]}}", 0), "deeper than 3"},
      {"tensor twice", FileBytes("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                 "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2), "occurs twice"},
      {"metadata twice", FileBytes("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "occurs twice"},
      {"metadata not text", FileBytes("{\"__metadata__\":{\"a\":1}}", 0), "not a string"},
      {"metadata not an object", FileBytes("{\"__metadata__\":[]}", 0), "not an object"},
      {"name too long", FileBytes("{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1), "1025 bytes"},
      {"name empty", FileBytes("{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1), "0 bytes"},
      {"entry not an object", FileBytes("{\"t\":3}", 0), "not an object"},
      {"no dtype", entry("\"shape\":[1],\"data_offsets\":[0,1]", 1), "\"dtype\" is missing"},
      {"no shape", entry("\"dtype\":\"U8\",\"data_offsets\":[0,1]", 1), "\"shape\" is missing"},
      {"no offsets", entry("\"dtype\":\"U8\",\"shape\":[1]", 1), "\"data_offsets\" is missing"},
      {"unknown key", entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1", 1), "unknown key"},
      {"unknown dtype", entry("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]", 4), "unknown dtype"},
      {"negative dimension", entry("\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]", 1), ">= 0"},
      {"real dimension", entry("\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]", 1), ">= 0"},
      {"rank 7", entry("\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,1]", 1), "rank 7"},
      {"elements overflow", entry("\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]", 0), "overflows"},
      {"bits overflow", entry("\"dtype\":\"F32\",\"shape\":[576460752303423488],\"data_offsets\":[0,0]", 0), "overflows"},
      {"overflow before a zero", entry("\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]", 0), "overflows"},
      {"half a byte", entry("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]", 2), "whole bytes"},
      {"one offset", entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]", 1), "two whole numbers"},
      {"negative offset", entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]", 1), "out of order"},
      {"end before begin", entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]", 1), "out of order"},
      {"offsets beyond 2^63", entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,18446744073709551615]", 1), "beyond 2^63"},
      {"size differs from shape", entry("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]", 3), "needs 4"},
      {"gap at the start", entry("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]", 2), "(gap)"},
      {"overlap", FileBytes("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                            "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3), "(overlap)"},
      {"gap between", FileBytes("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}", 3), "(gap)"},
      {"data truncated", entry("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]", 3), "truncated"},
      {"tail", entry("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]", 5), "belong to none"},
  };
}

TEST(SafetensorsTest, RefusesEveryBrokenRuleWithPathAndReason) {
  TempDirectory dir;
  for (const BadFile& bad : BadFiles()) {
    ASSERT_TRUE(WriteFileAtomically(dir / "f", bad.bytes).ok());
    const auto file = SafetensorsFile::Open(dir / "f");
    ASSERT_FALSE(file.ok()) << bad.what;
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << bad.what;
    EXPECT_THAT(std::string(file.status().message()), AllOf(HasSubstr(dir / "f"), HasSubstr(bad.reason))) << bad.what;
  }
}

TEST(SafetensorsTest, AcceptsWhatTheFormatAllows) {
  TempDirectory dir;
  // Out of order in the header, rank 0, zero-size, a type we do not compute with, no __metadata__, trailing spaces.
  const std::string json =
      "{\"z\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[8,11]},"
      "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[8,8]},"
      "\"a\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},\"f4\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[11,12]}}   ";
  std::string bytes = FileBytes(json, 12);
  const double value = 0.1;
  std::memcpy(&bytes[8 + json.size()], &value, 8);
  ASSERT_TRUE(WriteFileAtomically(dir / "f", bytes).ok());
  const auto file = SafetensorsFile::Open(dir / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->tensors()[1].name, "empty");
  EXPECT_FALSE(file->Find("z")->dtype.has_value());
  EXPECT_EQ(file->Find("nothing"), nullptr);
  const TensorView* a = file->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, DType::kF64);
  double read = 0;
  ASSERT_TRUE(file->Read(*a, 0, 1, &read).ok());
  EXPECT_EQ(read, value);
  ASSERT_TRUE(WriteFileAtomically(dir / "none", FileBytes("{}", 0)).ok());
  EXPECT_TRUE(SafetensorsFile::Open(dir / "none").ok());
}

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  TempDirectory dir;
  const std::string whole = FileBytes("{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    ASSERT_TRUE(WriteFileAtomically(dir / "f", whole.substr(0, size)).ok());
    EXPECT_FALSE(SafetensorsFile::Open(dir / "f").ok()) << size;
  }
}

TEST(SafetensorsModelTest, OpensAnIndexAndRefusesPathTricks) {
  TempDirectory dir;
  const auto part = [](const char* name) {
    return FileBytes(std::string("{\"") + name + "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1);
  };
  ASSERT_TRUE(CreateDirectories(dir / "model").ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "outside.safetensors", part("a")).ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "model/model-00001-of-00002.safetensors", part("a")).ok());
  ASSERT_TRUE(WriteFileAtomically(dir / "model/model-00002-of-00002.safetensors", part("b")).ok());
  ASSERT_EQ(::symlink("model-00001-of-00002.safetensors", (dir / "model/link.safetensors").c_str()), 0);
  const std::string index = dir / "model/model.safetensors.index.json";
  const auto open = [&](const std::string& file_of_a) {
    EXPECT_TRUE(WriteFileAtomically(index, "{\"metadata\":{\"total_size\":2},\"weight_map\":{\"a\":\"" + file_of_a +
                                               "\",\"b\":\"model-00002-of-00002.safetensors\"}}").ok());
    return SafetensorsModel::Open(dir / "model");
  };
  const auto model = open("model-00001-of-00002.safetensors");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(model->Find("b")->tensor->bytes, 1);
  EXPECT_EQ(model->Find("c").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(open("../outside.safetensors").status().message()), HasSubstr("beside the index"));
  EXPECT_THAT(std::string(open(dir / "outside.safetensors").status().message()), HasSubstr("beside the index"));
  EXPECT_THAT(std::string(open("link.safetensors").status().message()), HasSubstr("symbolic link"));
  EXPECT_THAT(std::string(open("model-00002-of-00002.safetensors").status().message()), HasSubstr("is not in"));
  EXPECT_EQ(open("missing.safetensors").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(SafetensorsModel::Open(dir / "outside.safetensors").ok());
  EXPECT_EQ(SafetensorsModel::Open(dir.path()).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lycia
