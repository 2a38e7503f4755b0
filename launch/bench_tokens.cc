#include "launch/bench_tokens.h"

#include <algorithm>
#include <fstream>

#include "runtime/core/philox.h"

namespace lycia {

BenchTokens BenchTokens::Random(const Sizes& sizes) {
  BenchTokens made(sizes);
  const RandomStream random(1, "bench tokens", 0);
  for (std::size_t i = 0; i < made.tokens_.size(); ++i) {
    made.tokens_[i] = static_cast<std::int32_t>(random.Bits(i) % static_cast<std::uint32_t>(sizes.vocabulary));
  }
  return made;
}

StatusOr<BenchTokens> BenchTokens::Read(const std::string& path, const Sizes& sizes) {
  BenchTokens made(sizes);
  std::ifstream file(path, std::ios::binary);
  if (!file) return InvalidArgument("--tokens=", path, " is missing or cannot be read; give a file of u16 tokens");
  std::vector<unsigned char> bytes(made.tokens_.size() * 2);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (const auto has = static_cast<std::size_t>(file.gcount()); has != bytes.size()) {
    return InvalidArgument("--tokens=", path, " has ", has / 2, " tokens, but ", sizes.steps, " steps of ", sizes.batch, " sequences of ",
                           sizes.context, " + 1 tokens need ", sizes.count(), "; use a longer file, or fewer --steps and --warmup");
  }
  for (std::size_t i = 0; i < made.tokens_.size(); ++i) {
    made.tokens_[i] = bytes[2 * i] | bytes[2 * i + 1] << 8;
    if (made.tokens_[i] >= sizes.vocabulary) {
      return InvalidArgument("--tokens=", path, ": token ", i, " is ", made.tokens_[i], ", beyond a vocabulary of ", sizes.vocabulary,
                             "; use --vocabulary=", made.tokens_[i] + 1, " or more");
    }
  }
  return made;
}

void BenchTokens::Load(std::int64_t step, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const {
  auto* tokens = static_cast<std::int32_t*>(inputs);
  for (std::int64_t sample = 0; sample < count; ++sample) {
    const std::int32_t* sequence = tokens_.data() + (step * sizes_.batch + first + sample) * (sizes_.context + 1);
    if (tokens != nullptr) std::copy_n(sequence, sizes_.context, tokens + sample * sizes_.context);
    if (labels != nullptr) std::copy_n(sequence + 1, sizes_.context, labels + sample * sizes_.context);
  }
}

}  // namespace lycia
