// What would a wrong generator still pass? Moments alone; so the published answers come first, then streams that must not know each other.
#include "runtime/core/philox.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

std::array<std::uint32_t, 4> Words(const Philox4& block) { return {block.x0, block.x1, block.x2, block.x3}; }

// Random123's kat_vectors for philox4x32-10.
TEST(PhiloxTest, GivesThePublishedAnswers) {
  constexpr std::uint64_t kOnes = ~std::uint64_t{0};
  using Block = std::array<std::uint32_t, 4>;
  EXPECT_EQ(Words(Philox(0, 0, 0)), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Words(Philox(kOnes, kOnes, kOnes)), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Words(Philox(0x299f31d0a4093822u, 0x85a308d3243f6a88u, 0x0370734413198a2eu)),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Values of the independent numpy implementation in tests/golden/record_gpt2.py.
TEST(PhiloxTest, StreamsEqualTheNumpyImplementation) {
  EXPECT_EQ(RandomStream::KeyOf(1, "init/wte.weight"), 0xf9bb9bfb9ae003d3u);
  EXPECT_EQ(RandomStream::KeyOf(0, "a"), 0x565e25cbdb1b0d6eu);
  EXPECT_EQ(RandomStream::KeyOf(~std::uint64_t{0}, ""), 0xcc0dc8910321bcb5u);
  const RandomStream random(42, "dropout/h.0.attn", 9);
  const std::vector<std::uint32_t> bits = {0x5edef844, 0x834bce73, 0xee325c6e, 0xbc5e02a8, 0xfbf376a2, 0xb2f174f7, 0xbc6e1b3e, 0x9d70d355};
  for (std::size_t i = 0; i < bits.size(); ++i) {
    EXPECT_EQ(random.Bits(i), bits[i]) << "index " << i;
    EXPECT_EQ(random.Uniform(i), (bits[i] + 0.5) / 4294967296.0) << "index " << i;
  }
  const std::vector<double> normal = {-1.404405346976734, -0.033808545662864224, -0.056248890012840294};
  for (std::size_t i = 0; i < normal.size(); ++i) EXPECT_NEAR(random.Normal(i), normal[i], 1e-15) << "index " << i;
}

// An index beyond 2^34 must reach the upper counter word, and the step the upper half, whole.
TEST(PhiloxTest, LargeIndicesAndStepsAreNotCutOff) {
  const std::uint64_t index = (std::uint64_t{5} << 40) + 3, step = std::uint64_t{1} << 33;
  RandomStream random(3, "big", step);
  EXPECT_EQ(random.Bits(index), Philox(random.key, index / 4, step).x3);
  EXPECT_NE(random.Bits(index), random.Bits(3));
  EXPECT_NE(random.Bits(index), RandomStream(3, "big", 0).Bits(index));
}

constexpr int kCount = 1 << 20;

// Mean of f(element) minus what theory says, in standard deviations of that mean.
template <typename F>
double Sigmas(F f, double expected, double variance) {
  double sum = 0;
  for (int i = 0; i < kCount; ++i) sum += f(i);
  return (sum / kCount - expected) / std::sqrt(variance / kCount);
}

TEST(PhiloxTest, UniformHasItsMoments) {
  for (const std::uint64_t seed : {0u, 1u, 12345u}) {
    const RandomStream random(seed, "uniform", seed);
    EXPECT_LT(std::abs(Sigmas([&](int i) { return random.Uniform(i); }, 1.0 / 2, 1.0 / 12)), 5) << "mean, seed " << seed;
    const auto square = [&](int i) { return std::pow(random.Uniform(i) - 0.5, 2); };
    EXPECT_LT(std::abs(Sigmas(square, 1.0 / 12, 1.0 / 80 - 1.0 / 144)), 5) << "variance, seed " << seed;
    const auto outside = [&](int i) { return random.Uniform(i) <= 0 || random.Uniform(i) >= 1 ? 1.0 : 0.0; };
    EXPECT_EQ(Sigmas(outside, 0, 1), 0) << "not inside (0, 1), seed " << seed;
  }
}

// Chi-square of each byte of the word over 256 bins: mean 255, standard deviation sqrt(2 * 255).
TEST(PhiloxTest, EveryByteIsEquallyDistributed) {
  const RandomStream random(8, "bytes", 0);
  for (int shift = 0; shift < 32; shift += 8) {
    std::array<int, 256> bins{};
    for (int i = 0; i < kCount; ++i) ++bins[random.Bits(i) >> shift & 255];
    double chi_square = 0;
    for (const int count : bins) chi_square += std::pow(count - kCount / 256.0, 2) / (kCount / 256.0);
    EXPECT_LT(std::abs(chi_square - 255), 5 * std::sqrt(510)) << "bits from " << shift;
  }
}

// E x^n of a standard normal is 0, 1, 0, 3 with variances 1, 2, 15, 96; a uniform or a triangular stand-in fails the fourth.
TEST(PhiloxTest, NormalHasItsMomentsAndTails) {
  for (const std::uint64_t seed : {0u, 7u}) {
    const RandomStream random(seed, "normal", 0);
    std::vector<double> x(kCount);
    for (int i = 0; i < kCount; ++i) x[i] = random.Normal(i);
    const double expected[] = {0, 1, 0, 3}, variance[] = {1, 2, 15, 96};
    for (int n = 1; n <= 4; ++n) {
      EXPECT_LT(std::abs(Sigmas([&](int i) { return std::pow(x[i], n); }, expected[n - 1], variance[n - 1])), 5) << "moment " << n;
    }
    for (const double limit : {0.5, 1.0, 2.0, 3.0, 4.0}) {
      const double p = std::erfc(limit / std::sqrt(2.0));
      EXPECT_LT(std::abs(Sigmas([&](int i) { return std::abs(x[i]) > limit ? 1.0 : 0.0; }, p, p * (1 - p))), 5) << "beyond " << limit;
    }
    EXPECT_LT(std::abs(Sigmas([&](int i) { return x[i] * x[(i + 1) % kCount]; }, 0, 1)), 5) << "neighbours";
  }
}

// Streams that differ in one bit of the seed, one letter or one step: products of centred uniforms have mean 0 and variance 1/144.
TEST(PhiloxTest, NearStreamsAreIndependent) {
  const RandomStream base(6, "dropout/h.1.attn", 4);
  const RandomStream others[] = {
      {7, "dropout/h.1.attn", 4}, {6, "dropout/h.2.attn", 4}, {6, "dropout/h.1.attn", 5}, {6, "dropout/h.1.attn_out", 4}};
  for (const RandomStream& other : others) {
    for (const int lag : {0, 1, 2, 4}) {
      const auto product = [&](int i) { return (base.Uniform(i) - 0.5) * (other.Uniform(i + lag) - 0.5); };
      EXPECT_LT(std::abs(Sigmas(product, 0, 1.0 / 144)), 5) << "stream " << &other - others << ", lag " << lag;
    }
  }
  for (const int lag : {1, 2, 3, 4, 8}) {
    const auto product = [&](int i) { return (base.Uniform(i) - 0.5) * (base.Uniform(i + lag) - 0.5); };
    EXPECT_LT(std::abs(Sigmas(product, 0, 1.0 / 144)), 5) << "itself, lag " << lag;
  }
}

// Every key of 1,000 seeds x 40 names is different, and a seed's neighbour differs in about half of the 64 bits.
TEST(PhiloxTest, KeysOfNearSeedsAndNamesAreUnrelated) {
  std::set<std::uint64_t> keys;
  double flipped = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    for (int i = 0; i < 40; ++i) {
      const std::string name = "h." + std::to_string(i);
      keys.insert(RandomStream::KeyOf(seed, name));
      flipped += std::popcount(RandomStream::KeyOf(seed, name) ^ RandomStream::KeyOf(seed + 1, name));
    }
  }
  EXPECT_EQ(keys.size(), 40000u);
  EXPECT_NEAR(flipped / 40000, 32, 5 * 4 / std::sqrt(40000.0));
}

}  // namespace
}  // namespace lycia
