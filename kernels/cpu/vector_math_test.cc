#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/cpu/random_bits.h"
#include "kernels/testing/every_isa.h"

namespace lycia::cpu {
namespace {

float ExpOf(float x) {
  float y = 0;
  ForBestIsa([&](auto isa) LYCIA_INLINE { y = Exp(Broadcast<Vector<float, decltype(isa)::value>>(x))[3]; });
  return y;
}

// Largest relative error against the C library in f64 over an even grid.
double WorstError(double from, double to, double step) {
  double worst = 0;
  for (double x = from; x <= to; x += step) {
    const float rounded = static_cast<float>(x);
    const double truth = std::exp(static_cast<double>(rounded));
    worst = std::max(worst, std::abs((ExpOf(rounded) - truth) / truth));
  }
  return worst;
}

TEST(VectorMath, ExpIsExactToFloatOverItsRange) {
  testing::ForEveryIsa([] {
    EXPECT_LT(WorstError(-87.3, 88.2, 0.00037), 2e-7);
    EXPECT_EQ(ExpOf(0.0f), 1.0f);
  });
}

TEST(VectorMath, ExpAtTheEdges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ExpOf(-kInfinity), 0.0f);
  EXPECT_EQ(ExpOf(-100.0f), 0.0f);
  EXPECT_TRUE(std::isfinite(ExpOf(1000.0f)));
  EXPECT_GT(ExpOf(1000.0f), 1e38f);
  EXPECT_TRUE(std::isnan(ExpOf(std::numeric_limits<float>::quiet_NaN())));
}

TEST(VectorMath, ExpAtMostZeroHasTheSameBits) {
  testing::ForEveryIsa([&] {
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<float, decltype(isa)::value>;
      for (std::uint32_t upper = 0x8000; upper <= 0x10000; ++upper) {  // from -0 to -infinity and its NaNs; then +0
        const float x = std::bit_cast<float>(upper < 0x10000 ? upper << 16 | 0x4321u : 0u);
        const float any = Exp<V>(Broadcast<V>(x))[0], at_most_zero = Exp<V, true>(Broadcast<V>(x))[0];
        ASSERT_EQ(std::bit_cast<std::uint32_t>(any), std::bit_cast<std::uint32_t>(at_most_zero)) << x;
      }
    });
  });
}

// Halves folded onto each other, in lanes of memory.
template <typename T>
void TestSumOf() {
  const RandomStream random(5, "lanes", 0);
  testing::ForEveryIsa([&] {
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      for (std::uint64_t trial = 0; trial < 100; ++trial) {
        T lanes[kLanes<V>];
        for (int i = 0; i < kLanes<V>; ++i)
          lanes[i] = static_cast<T>(random.Bits(16 * trial + i) >> 3) / static_cast<T>(random.Bits(i) | 1);
        const T sum = SumOf<V>(Load<V>(lanes));
        for (int half = kLanes<V> / 2; half > 0; half /= 2) {
          for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
        }
        ASSERT_EQ(sum, lanes[0]);
      }
    });
  });
}
TEST(Vector, SumFoldsHalvesF32) { TestSumOf<float>(); }
TEST(Vector, SumFoldsHalvesF64) { TestSumOf<double>(); }
TEST(Vector, SumFoldsHalvesU64) { TestSumOf<std::uint64_t>(); }

// The counter's carry from its low into its high half included.
TEST(RandomBits, EqualPhiloxElementByElement) {
  const RandomStream random(99, "dropout/embedding", (std::uint64_t{3} << 32) + 5);
  testing::ForEveryIsa([&] {
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{7}, (std::uint64_t{1} << 34) - 9}) {
      for (const std::int64_t count : {1, 29, 30, 64, 70}) {
        RandomRun<70> run;
        ForBestIsa([&](auto isa) LYCIA_INLINE { run.Make<decltype(isa)::value>(random, first, count); });
        for (std::int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(run.bits()[i], random.Bits(first + static_cast<std::uint64_t>(i))) << "first " << first << " element " << i;
        }
      }
    }
  });
}

}  // namespace
}  // namespace lycia::cpu
