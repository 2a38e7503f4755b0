// Samples must be a pure function of (seed, step, sample), stay inside the training part, and evaluation must see every held-out byte once.
#include "launch/data/text_data.h"

#include <unistd.h>

#include <cmath>
#include <fstream>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string WriteText(const std::string& name, const std::string& text) {
  const std::string path = ::testing::TempDir() + "/text_data_" + std::to_string(getpid()) + "_" + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

// Bytes that tell their place: byte i is (i * 7 + i / 256) mod 256.
std::string Places(int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(i * 7 + i / 256);
  return text;
}

TextDataOptions Options(const std::string& path) { return {.files = {path}, .held_out = 0.25, .context = 8, .batch = 3, .seed = 11}; }

TEST(TextData, FilesAreJoinedByANewlineAndSplitAtTheTail) {
  const std::string a = WriteText("a", "0123456789"), b = WriteText("b", std::string("ab\0\xff", 4));
  const StatusOr<TextData> data = TextData::Open({.files = {a, b}, .held_out = 0.2, .context = 4, .batch = 1});
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(std::string(data->training().begin(), data->training().end()), std::string("0123456789\nab", 13).substr(0, 12));
  EXPECT_EQ(std::string(data->held_out().begin(), data->held_out().end()), std::string("b\0\xff", 3));
}

TEST(TextData, AFoldHoldsOutAnEarlierPart) {
  const std::string path = WriteText("fold", "0123456789ab");
  const auto parts = [&](std::int64_t fold) {
    const StatusOr<TextData> data = TextData::Open({.files = {path}, .held_out = 0.25, .fold = fold, .context = 4, .batch = 1});
    EXPECT_TRUE(data.ok()) << data.status();
    return std::string(data->training().begin(), data->training().end()) + "|" + std::string(data->held_out().begin(), data->held_out().end());
  };
  EXPECT_EQ(parts(0), "012345678|9ab");
  EXPECT_EQ(parts(1), "9ab012345|678");
  EXPECT_EQ(parts(3), "3456789ab|012");
  EXPECT_EQ(ExitCode(TextData::Open({.files = {path}, .held_out = 0.25, .fold = 4, .context = 4, .batch = 1}).status()), kExitBadInput);
}

TEST(TextData, LabelsAreTheNextBytesAndStartsCoverTheTrainingPartOnly) {
  const std::string text = Places(64);
  const StatusOr<TextData> data = TextData::Open(Options(WriteText("starts", text)));
  ASSERT_TRUE(data.ok()) << data.status();
  ASSERT_EQ(data->training().size(), 48u);
  std::set<std::int64_t> starts;
  std::int32_t tokens[24], labels[24];
  for (std::int64_t step = 1; step <= 300; ++step) {
    data->Load(step, 0, 3, tokens, labels);
    for (std::int64_t sample = 0; sample < 3; ++sample) {
      const std::int64_t start = data->Start(step, sample);
      starts.insert(start);
      for (std::int64_t t = 0; t < 8; ++t) {
        const auto place = static_cast<std::size_t>(start + t);
        ASSERT_EQ(tokens[sample * 8 + t], static_cast<unsigned char>(text[place]));
        ASSERT_EQ(labels[sample * 8 + t], static_cast<unsigned char>(text[place + 1]));
      }
    }
  }
  EXPECT_EQ(*starts.begin(), 0);
  EXPECT_EQ(*starts.rbegin(), 39);  // tokens 39..46, labels 40..47: the last byte of the training part, none of the held-out part
  EXPECT_EQ(starts.size(), 40u);    // 900 draws miss one of 40 starts with probability 5e-9, and this draw is fixed
}

TEST(TextData, ASampleDoesNotDependOnWhoLoadsIt) {
  const StatusOr<TextData> data = TextData::Open(Options(WriteText("pure", Places(4000))));
  ASSERT_TRUE(data.ok());
  std::int32_t tokens[48], labels[48], one[8], one_label[8];
  data->Load(5, 0, 6, tokens, labels);
  for (const std::int64_t sample : {5, 0, 3}) {  // any order, alone
    data->Load(5, sample, 1, one, one_label);
    EXPECT_TRUE(std::equal(one, one + 8, tokens + sample * 8));
    EXPECT_TRUE(std::equal(one_label, one_label + 8, labels + sample * 8));
  }
  TextDataOptions other = Options(WriteText("pure2", Places(4000)));
  other.seed = 12;
  EXPECT_NE(TextData::Open(other)->Start(5, 0), data->Start(5, 0));
  EXPECT_NE(data->Start(6, 0), data->Start(5, 0));
  EXPECT_NE(data->Start(5, 1), data->Start(5, 0));
}

TEST(TextData, EvaluationPredictsEveryHeldOutByteOnce) {
  const std::string text = Places(120);
  const StatusOr<TextData> data = TextData::Open(Options(WriteText("eval", text)));
  ASSERT_TRUE(data.ok());
  ASSERT_EQ(data->held_out().size(), 30u);  // 29 predictions: windows of 8, 8, 8 and 5
  EXPECT_EQ(data->held_out_windows(), 4);
  std::vector<std::int32_t> tokens(48), labels(48);
  data->LoadHeldOut(0, 2, tokens.data(), labels.data());
  data->LoadHeldOut(2, 4, tokens.data() + 16, labels.data() + 16);
  int loss_tokens = 0;
  for (std::size_t i = 0; i < 48; ++i) {
    if (i < 29) {
      EXPECT_EQ(tokens[i], static_cast<unsigned char>(text[90 + i]));
      EXPECT_EQ(labels[i], static_cast<unsigned char>(text[91 + i]));
    } else {
      EXPECT_EQ(tokens[i], 0);
      EXPECT_EQ(labels[i], kIgnoredLabel);
    }
    loss_tokens += labels[i] != kIgnoredLabel;
  }
  EXPECT_EQ(data->HeldOutTokens(0, 6), loss_tokens);
  EXPECT_EQ(data->HeldOutTokens(3, 1), 5);
  EXPECT_EQ(data->HeldOutTokens(4, 2), 0);
}

TEST(TextData, BadInputIsRefusedWithItsNumbers) {
  const auto mistake = [](const TextDataOptions& options) {
    const Status status = TextData::Open(options).status();
    EXPECT_EQ(ExitCode(status), kExitBadInput) << status;
    return std::string(status.message());
  };
  TextDataOptions options = Options("/nowhere/text");
  EXPECT_THAT(mistake(options), HasSubstr("/nowhere/text is missing"));
  options.files = {"/tmp"};
  EXPECT_THAT(mistake(options), HasSubstr("not a regular file"));
  options.files = {};
  EXPECT_THAT(mistake(options), HasSubstr("data.files"));
  // 3 sequences of 8 need 25 bytes for training: 33 bytes leave exactly that, 32 one less.
  EXPECT_TRUE(TextData::Open(Options(WriteText("fits", Places(33)))).ok());
  EXPECT_THAT(mistake(Options(WriteText("short", Places(32)))), AllOf(HasSubstr("32 bytes, 24 of them"), HasSubstr("needs 25")));
  EXPECT_THAT(mistake(Options(WriteText("empty", ""))), HasSubstr("0 bytes"));
  options = Options(WriteText("tail", Places(100)));
  options.held_out = 0.01;
  EXPECT_THAT(mistake(options), HasSubstr("data.held_out"));
}

TEST(Baselines, AgreeWithAClosedFormAndRankAsTheyMust) {
  // "abab...": every byte follows from the one before, so the bigram loss is near 0 and the unigram loss near log 2.
  std::vector<std::uint8_t> text(40000);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = i % 2 == 0 ? 'a' : 'b';
  const auto all = std::span<const std::uint8_t>(text);
  const Baselines baselines = MeasureBaselines(all.first(36000), all.subspan(36000));
  EXPECT_NEAR(baselines.unigram, -std::log((18000 + 0.5) / (36000 + 128)), 1e-12);
  EXPECT_LT(baselines.bigram, 1e-5);
  EXPECT_EQ(baselines.bigram_alpha, std::ldexp(1.0, -6));  // no smoothing pays here
}

TEST(Baselines, AnUnseenPairHasAFiniteLoss) {
  const std::vector<std::uint8_t> training(1000, 'a'), held_out = {'a', 'z', 'q'};
  const Baselines baselines = MeasureBaselines(training, held_out);
  EXPECT_TRUE(std::isfinite(baselines.bigram));
  EXPECT_GT(baselines.bigram, 5.0);
}

TEST(Baselines, ProbabilitiesOfAModelSumToOne) {
  // Over all next bytes, the mean of p is 1/256: recovered from the losses of 256 texts of two bytes.
  std::vector<std::uint8_t> training;
  for (int i = 0; i < 5000; ++i) training.push_back(static_cast<std::uint8_t>("the quick brown fox"[(i * i + i / 7) % 19]));
  double unigram = 0, bigram = 0;
  for (int next = 0; next < 256; ++next) {
    const std::vector<std::uint8_t> pair = {'o', static_cast<std::uint8_t>(next)};
    const Baselines baselines = MeasureBaselines(training, pair);
    unigram += std::exp(-baselines.unigram);
    bigram += std::exp(-baselines.bigram);
  }
  EXPECT_NEAR(unigram, 1.0, 1e-12);
  EXPECT_NEAR(bigram, 1.0, 1e-12);
}

}  // namespace
}  // namespace lycia
