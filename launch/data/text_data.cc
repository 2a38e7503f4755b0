#include "launch/data/text_data.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "runtime/core/check.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr std::size_t kVocab = 256;

Status AppendFile(const std::string& path, std::vector<std::uint8_t>& text) {
  struct stat about;
  if (stat(path.c_str(), &about) != 0) return InvalidArgument("text file ", path, " is missing; correct data.files");
  if (!S_ISREG(about.st_mode)) return InvalidArgument("text file ", path, " is not a regular file; correct data.files");
  std::ifstream file(path, std::ios::binary);
  const std::size_t before = text.size(), bytes = static_cast<std::size_t>(about.st_size);
  text.resize(before + bytes);
  if (!file || (bytes > 0 && !file.read(reinterpret_cast<char*>(text.data() + before), about.st_size))) {
    return InvalidArgument("text file ", path, " of ", bytes, " bytes cannot be read; is it readable, and not being written?");
  }
  return OkStatus();
}

// Counts of a text's bytes, and of its pairs.
struct Counts {
  std::vector<double> of = std::vector<double>(kVocab);
  std::vector<double> follows = std::vector<double>(kVocab * kVocab);  // [first][second]
  std::vector<double> first = std::vector<double>(kVocab);             // pairs that begin with it
  double total = 0;

  explicit Counts(std::span<const std::uint8_t> text) : total(static_cast<double>(text.size())) {
    for (const std::uint8_t byte : text) ++of[byte];
    for (std::size_t i = 1; i < text.size(); ++i) {
      ++follows[text[i - 1] * kVocab + text[i]];
      ++first[text[i - 1]];
    }
  }
  double Unigram(std::uint8_t byte) const { return (of[byte] + 0.5) / (total + 0.5 * static_cast<double>(kVocab)); }
  double Bigram(std::uint8_t before, std::uint8_t byte, double alpha) const {
    return (follows[before * kVocab + byte] + alpha * Unigram(byte)) / (first[before] + alpha);
  }
};

// Mean of -log p over bytes 1.. of the text.
template <typename Probability>
double MeanLoss(std::span<const std::uint8_t> text, Probability probability) {
  double sum = 0;
  for (std::size_t i = 1; i < text.size(); ++i) sum -= std::log(probability(text[i - 1], text[i]));
  return text.size() < 2 ? 0.0 : sum / static_cast<double>(text.size() - 1);
}

}  // namespace

StatusOr<TextData> TextData::Open(const TextDataOptions& options) {
  LYCIA_CHECK_GE(options.context, 1);
  LYCIA_CHECK_GE(options.batch, 1);
  if (options.files.empty()) return InvalidArgument("data.files is empty; name at least one text file");
  TextData data;
  data.options_ = options;
  for (const std::string& path : options.files) {
    if (!data.text_.empty()) data.text_.push_back('\n');
    LYCIA_RETURN_IF_ERROR(AppendFile(path, data.text_));
  }
  const auto bytes = static_cast<std::int64_t>(data.text_.size());
  data.split_ = bytes - static_cast<std::int64_t>(std::floor(static_cast<double>(bytes) * options.held_out));
  const std::int64_t held_out = bytes - data.split_;
  if (held_out * (options.fold + 1) > bytes) {
    return InvalidArgument("data.fold = ", options.fold, " with data.held_out = ", options.held_out, " lies before the beginning of ", bytes,
                           " bytes; use a fold below ", held_out > 0 ? bytes / held_out : 1);
  }
  std::rotate(data.text_.begin(), data.text_.end() - options.fold * held_out, data.text_.end());
  const std::int64_t needed = options.batch * options.context + 1;
  if (data.split_ < needed) {
    return InvalidArgument("the text has ", bytes, " bytes, ", data.split_, " of them for training, but one batch of ", options.batch,
                           " sequences of ", options.context, " tokens needs ", needed,
                           "; give more text, or a smaller train.batch or model.context");
  }
  if (options.held_out > 0 && bytes - data.split_ < 2) {
    return InvalidArgument("data.held_out = ", options.held_out, " of ", bytes, " bytes leaves ", bytes - data.split_,
                           " to evaluate on; use a larger fraction, or 0 for none");
  }
  return data;
}

std::int64_t TextData::Start(std::int64_t step, std::int64_t sample) const {
  const RandomStream stream(options_.seed, "data.start", static_cast<std::uint64_t>(step));
  const auto index = 2 * static_cast<std::uint64_t>(sample);
  const std::uint64_t bits = std::uint64_t{stream.Bits(index)} << 32 | stream.Bits(index + 1);
  const auto starts = static_cast<std::uint64_t>(split_ - options_.context);
  return static_cast<std::int64_t>(static_cast<std::uint64_t>((static_cast<unsigned __int128>(bits) * starts) >> 64));
}

void TextData::Load(std::int64_t step, std::int64_t sample_begin, std::int64_t count, std::int32_t* tokens, std::int32_t* labels) const {
  for (std::int64_t row = 0; row < count; ++row) {
    const std::uint8_t* bytes = text_.data() + Start(step, sample_begin + row);
    for (std::int64_t t = 0; t < options_.context; ++t) {
      if (tokens != nullptr) *tokens++ = bytes[t];
      if (labels != nullptr) *labels++ = bytes[t + 1];
    }
  }
}

std::int64_t TextData::held_out_windows() const {
  const auto predicted = static_cast<std::int64_t>(held_out().size()) - 1;
  return std::max<std::int64_t>(predicted + options_.context - 1, 0) / options_.context;
}

void TextData::LoadHeldOut(std::int64_t window_begin, std::int64_t count, std::int32_t* tokens, std::int32_t* labels) const {
  const std::span<const std::uint8_t> bytes = held_out();
  const auto last = static_cast<std::int64_t>(bytes.size()) - 1;
  for (std::int64_t at = window_begin * options_.context; at < (window_begin + count) * options_.context; ++at) {
    const auto place = static_cast<std::size_t>(at);
    if (tokens != nullptr) *tokens++ = at < last ? bytes[place] : 0;
    if (labels != nullptr) *labels++ = at < last ? bytes[place + 1] : kIgnoredLabel;
  }
}

std::int64_t TextData::HeldOutTokens(std::int64_t window_begin, std::int64_t count) const {
  const std::int64_t predicted = std::max<std::int64_t>(static_cast<std::int64_t>(held_out().size()) - 1, 0);
  const auto upto = [&](std::int64_t window) { return std::min(window * options_.context, predicted); };
  return upto(window_begin + count) - upto(window_begin);
}

Baselines MeasureBaselines(std::span<const std::uint8_t> training, std::span<const std::uint8_t> held_out) {
  Baselines baselines;
  const std::size_t cut = training.size() - training.size() / 10;
  const Counts most(training.first(cut));
  double best = 0;
  for (int exponent = -6; exponent <= 12; ++exponent) {
    const double alpha = std::ldexp(1.0, exponent);
    const double loss =
        MeanLoss(training.subspan(cut), [&](std::uint8_t before, std::uint8_t byte) { return most.Bigram(before, byte, alpha); });
    if (exponent == -6 || loss < best) {
      best = loss;
      baselines.bigram_alpha = alpha;
    }
  }
  const Counts all(training);
  baselines.unigram = MeanLoss(held_out, [&](std::uint8_t, std::uint8_t byte) { return all.Unigram(byte); });
  baselines.bigram = MeanLoss(held_out, [&](std::uint8_t before, std::uint8_t byte) {
    return all.Bigram(before, byte, baselines.bigram_alpha);
  });
  return baselines;
}

}  // namespace lycia
