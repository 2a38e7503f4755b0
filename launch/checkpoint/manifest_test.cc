#include "launch/checkpoint/manifest.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/test_ranks.h"
#include "runtime/io/checksum.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

// The format, written out by hand; the seal is from the xxhash package of another language. Version 1 is what programs wrote that knew no
// blocks.
TEST(ManifestTest, GoldenText) {
  Manifest manifest;
  manifest.state = {20, {{"samples", 640}}, {{"lr", 0.5}, {"scale", 2.0}}, {{"config", "a = \"b\"\n"}}};
  manifest.shards = {{"shard-00000-of-00001.safetensors", 128, std::string(32, 'a'),
                      {{"w", DType::kF32, {2, 3}, 0, 4, "w[0:4]", std::string(32, 'b')},
                       {"w", DType::kF32, {2, 3}, 4, 6, "w[4:6]", std::string(32, 'c')}}}};
  const std::string expected = R"({
 "format": "lycia-checkpoint",
 "version": 1,
 "step": 20,
 "integers": {
  "samples": 640},
 "reals": {
  "lr": 0.5,
  "scale": 2.0},
 "texts": {
  "config": "a = \"b\"\n"},
 "shards": [
  {"file": "shard-00000-of-00001.safetensors", "bytes": 128, "checksum": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "pieces": [
   {"name": "w", "dtype": "f32", "shape": [2, 3], "range": [0, 4], "key": "w[0:4]", "checksum": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"},
   {"name": "w", "dtype": "f32", "shape": [2, 3], "range": [4, 6], "key": "w[4:6]", "checksum": "cccccccccccccccccccccccccccccccc"}]}],
 "seal": "c1ad53dea484c7e06ed46a60fa6c699c"
}
)";
  EXPECT_EQ(ManifestText(manifest), expected);
  const auto parsed = ParseManifest(expected);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, manifest);
}

// A block is told once a shard, whatever the number of its pieces; -1: padding.
TEST(ManifestTest, GoldenTextWithBlocks) {
  const Block block{.tensor_columns = 6, .rows = {{4, 2}, {-1, 1}}, .columns = {{0, 1}, {2, 1}, {4, 1}}}, half{6, {{0, 4}}, {{0, 3}}};
  Manifest manifest;
  manifest.state = {20, {}, {}, {}};
  manifest.shards = {{"shard-00000-of-00001.safetensors", 128, std::string(32, 'a'),
                      {{"w", DType::kF32, {6, 6}, 3, 9, "0", std::string(32, 'b'), block},
                       {"w", DType::kF32, {6, 6}, 0, 12, "1", std::string(32, 'c'), half},
                       {"v", DType::kF32, {6, 6}, 3, 9, "v", std::string(32, 'e'), block},
                       {"b", DType::kF32, {6}, 0, 6, "b", std::string(32, 'd')}}}};
  const std::string expected = R"({
 "format": "lycia-checkpoint",
 "version": 2,
 "step": 20,
 "integers": {},
 "reals": {},
 "texts": {},
 "shards": [
  {"file": "shard-00000-of-00001.safetensors", "bytes": 128, "checksum": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "blocks": [
   {"tensor_columns": 6, "rows": [[4, 2], [-1, 1]], "columns": [[0, 1], [2, 1], [4, 1]]},
   {"tensor_columns": 6, "rows": [[0, 4]], "columns": [[0, 3]]}], "pieces": [
   {"name": "w", "dtype": "f32", "shape": [6, 6], "range": [3, 9], "key": "0", "checksum": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "block": 0},
   {"name": "w", "dtype": "f32", "shape": [6, 6], "range": [0, 12], "key": "1", "checksum": "cccccccccccccccccccccccccccccccc", "block": 1},
   {"name": "v", "dtype": "f32", "shape": [6, 6], "range": [3, 9], "key": "v", "checksum": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "block": 0},
   {"name": "b", "dtype": "f32", "shape": [6], "range": [0, 6], "key": "b", "checksum": "dddddddddddddddddddddddddddddddd"}]}],
 "seal": "9bafefdde8076d94c41c6e98160030d1"
}
)";
  EXPECT_EQ(ManifestText(manifest), expected);
  const auto parsed = ParseManifest(expected);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, manifest);

  // Sealed, but nonsense.
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string text = ShardTableText(manifest.shards[0]);
    const std::size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    text.replace(at, from.size(), to);
    constexpr std::size_t kSealBytes = 12 + 32 + 4;  // ,\n "seal": "..."\n}\n
    text.resize(text.size() - kSealBytes);
    text += ",\n \"seal\": \"" + ChecksumOf(text.data(), static_cast<std::int64_t>(text.size())) + "\"\n}\n";
    return std::string(ParseShardTable(text).status().message());
  };
  EXPECT_EQ(refusal("\"block\": 0", "\"block\": 0"), "");
  EXPECT_THAT(refusal("\"block\": 0", "\"block\": 2"), HasSubstr("tensor \"w\": its block is none of the shard's 2"));
  EXPECT_THAT(refusal("\"block\": 0", "\"block\": -1"), HasSubstr("its block is none"));
  EXPECT_THAT(refusal("\"rows\": [[0, 4]]", "\"rows\": []"), HasSubstr("a block has no rows"));
  EXPECT_THAT(refusal("[[0, 4]]", "[[0, 4, 1]]"), HasSubstr("rows are no pairs of whole numbers"));
  EXPECT_THAT(refusal("[[0, 3]]", "[[0, 0.5]]"), HasSubstr("columns are no pairs of whole numbers"));
  EXPECT_THAT(refusal("\"tensor_columns\": 6, ", ""), HasSubstr("tensor_columns"));
}

TEST(ManifestTest, LaterVersionsAreRefused) {
  std::string body = "{\n \"format\": \"lycia-checkpoint\",\n \"version\": 3";
  body += ",\n \"seal\": \"" + ChecksumOf(body.data(), static_cast<std::int64_t>(body.size())) + "\"\n}\n";
  EXPECT_THAT(std::string(ParseManifest(body).status().message()), HasSubstr("version 3 is none of 1 to 2; use the program that wrote it"));
}

TEST(ManifestTest, StateComesBackBitForBit) {
  Manifest manifest;
  manifest.state = TestState(3);
  manifest.state.integers.emplace_back("limits", std::numeric_limits<std::int64_t>::min());
  for (double value : {0.1, -0.0, 1e300, 5e-324, 3.0, -std::numeric_limits<double>::infinity(), 1.0 / 3}) {
    manifest.state.reals.emplace_back(absl::StrCat("v", manifest.state.reals.size()), value);
  }
  const auto parsed = ParseManifest(ManifestText(manifest));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->state.integers, manifest.state.integers);
  EXPECT_EQ(parsed->state.texts, manifest.state.texts);
  ASSERT_EQ(parsed->state.reals.size(), manifest.state.reals.size());
  for (std::size_t i = 0; i < parsed->state.reals.size(); ++i) {
    EXPECT_EQ(std::memcmp(&parsed->state.reals[i].second, &manifest.state.reals[i].second, 8), 0) << parsed->state.reals[i].first;
  }
  manifest.state.reals = {{"nan", std::nan("")}};
  EXPECT_TRUE(std::isnan(*ParseManifest(ManifestText(manifest))->state.Real("nan")));
  EXPECT_EQ(*parsed->state.Integer("seed"), -1);
  EXPECT_THAT(std::string(parsed->state.Text("absent").status().message()), HasSubstr("no text named absent"));
}

TEST(NamesTest, OnlyExactNamesAreOurs) {
  EXPECT_EQ(StepDirectoryName(20), "step_00000020");
  EXPECT_EQ(ParseStepDirectoryName("step_00000020"), 20);
  EXPECT_EQ(ParseStepDirectoryName(StepDirectoryName(1'234'567'890)), 1'234'567'890);
  for (const char* bad : {"step_20", "step_000000020", "step_00000020x", "step_-0000020", "step_99999999999999999999", ""}) {
    EXPECT_FALSE(ParseStepDirectoryName(bad)) << bad;
  }
  const auto attempt = ParseAttemptDirectoryName("step_00000030.k3x9-4.tmp");
  ASSERT_TRUE(attempt);
  EXPECT_EQ(attempt->step, 30);
  EXPECT_EQ(attempt->run, "k3x9");
  EXPECT_EQ(attempt->save, 4);
  for (const char* bad : {"step_00000030", "step_00000030.tmp", "step_00000030.-4.tmp", "step_00000030.a-.tmp", "step_00000030.a-04.tmp",
                          "step_00000030.a/b-4.tmp", "step_00000030.a-4.tmp~", "step_00000030.a-4"}) {
    EXPECT_FALSE(ParseAttemptDirectoryName(bad)) << bad;
  }
  for (const char* ours : {"manifest.json", "shard-00001-of-00002.safetensors", "shard-00001.json", "shard-00001.failed"}) {
    EXPECT_TRUE(IsCheckpointFileName(ours)) << ours;
  }
  for (const char* bad : {"manifest.json~", "shard-1.json", "shard-00001-of-2.safetensors", "notes.txt", "shard-00001.safetensors"}) {
    EXPECT_FALSE(IsCheckpointFileName(bad)) << bad;
  }
}

}  // namespace
}  // namespace lycia
