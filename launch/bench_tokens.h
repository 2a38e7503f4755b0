// Tokens of a bench: as many steps as it runs, drawn at random or read from a file that rivals read too.
#ifndef LYCIA_LAUNCH_BENCH_TOKENS_H_
#define LYCIA_LAUNCH_BENCH_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launch/trainer.h"
#include "runtime/core/status.h"

namespace lycia {

class BenchTokens final : public BatchSource {
 public:
  struct Sizes {
    std::int64_t steps = 0, batch = 0;  // sequences of a step, over all replicas
    std::int64_t context = 0;           // T; a sequence is T + 1 tokens, of which the last T are labels
    std::int64_t vocabulary = 0;
    std::int64_t count() const { return steps * batch * (context + 1); }
  };

  // The same on every rank and machine.
  static BenchTokens Random(const Sizes& sizes);
  // u16, little-endian: step after step, sequence after sequence. InvalidArgument: a file that cannot be read or is too short, or a token
  // beyond the vocabulary.
  static StatusOr<BenchTokens> Read(const std::string& path, const Sizes& sizes);

  void Load(std::int64_t step, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override;
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count * sizes_.context; }

 private:
  explicit BenchTokens(const Sizes& sizes) : sizes_(sizes), tokens_(static_cast<std::size_t>(sizes.count())) {}
  Sizes sizes_;
  std::vector<std::int32_t> tokens_;  // [steps, batch, T + 1]
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_BENCH_TOKENS_H_
