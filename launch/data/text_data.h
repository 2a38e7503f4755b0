// TextData: text files as bytes, split into a training part and a held-out tail.
//
// A sample is context + 1 consecutive bytes: tokens are the first `context`, labels the same shifted by one. Which bytes sample i of step s
// holds is a pure function of (seed, s, i), so that any rank loads any sample, on every layout and after every restart, without state.
// Immutable after Open: ranks that are threads share one.
#ifndef LYCIA_LAUNCH_DATA_TEXT_DATA_H_
#define LYCIA_LAUNCH_DATA_TEXT_DATA_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launch/data/ignored_label.h"
#include "runtime/core/status.h"

namespace lycia {

struct TextDataOptions {
  std::vector<std::string> files;  // joined with one newline between
  double held_out = 0.1;           // fraction of the bytes, at the end
  std::int64_t fold = 0;           // k > 0: the k-th part of that size before the end is held out; what follows it then stands before the rest
  std::int64_t context = 128;      // T
  std::int64_t batch = 1;          // sequences of a step: the training part must hold at least one step's tokens
  std::uint64_t seed = 1;
};

class TextData {
 public:
  static constexpr std::int64_t kVocab = 256;

  // InvalidArgument: no files, a missing or unreadable file, a text too short (with the sizes and what would work).
  static StatusOr<TextData> Open(const TextDataOptions& options);

  std::int64_t context() const { return options_.context; }
  std::span<const std::uint8_t> training() const { return std::span(text_).first(static_cast<std::size_t>(split_)); }
  std::span<const std::uint8_t> held_out() const { return std::span(text_).subspan(static_cast<std::size_t>(split_)); }

  // First byte of sample `sample` of step `step`: uniform over the training part's starts 0..training().size() - T - 1, taken from bits
  // (2 * sample, 2 * sample + 1) of RandomStream(seed, "data.start", step) as floor(bits * starts / 2^64).
  std::int64_t Start(std::int64_t step, std::int64_t sample) const;

  // Samples sample_begin .. + count - 1 of a step's global batch: tokens, labels [count, T], either may be nullptr. All
  // labels are loss tokens.
  void Load(std::int64_t step, std::int64_t sample_begin, std::int64_t count, std::int32_t* tokens, std::int32_t* labels) const;

  // Evaluation: the held-out part as consecutive windows without overlap; window w predicts bytes w*T + 1 .. w*T + T. Together they predict
  // every held-out byte but the first, once; places beyond the end (also whole windows >= held_out_windows()) have token 0, kIgnoredLabel.
  std::int64_t held_out_windows() const;
  void LoadHeldOut(std::int64_t window_begin, std::int64_t count, std::int32_t* tokens, std::int32_t* labels) const;
  // Loss tokens of windows window_begin .. + count - 1.
  std::int64_t HeldOutTokens(std::int64_t window_begin, std::int64_t count) const;

 private:
  TextDataOptions options_;
  std::vector<std::uint8_t> text_;
  std::int64_t split_ = 0;
};

// Losses of count models in nats per byte, trained on `training` and measured on bytes 1.. of `held_out` (as evaluation does): what a
// trained model must beat.
struct Baselines {
  double unigram = 0;
  double bigram = 0;
  double bigram_alpha = 0;  // weight of the unigram model inside the bigram model, in counts
};
// Unigram p(b) = (c(b) + 1/2) / (n + 128). Bigram interpolated with it, p(b | a) = (c(a b) + alpha p(b)) / (c(a) + alpha), alpha being the
// power of two (2^-6 .. 2^12) that is best on the last tenth of `training` when trained on the rest.
Baselines MeasureBaselines(std::span<const std::uint8_t> training, std::span<const std::uint8_t> held_out);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_TEXT_DATA_H_
