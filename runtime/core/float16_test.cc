#include "runtime/core/float16.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

std::uint32_t BitsOf(float x) { return std::bit_cast<std::uint32_t>(x); }
float FloatOf(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// The value by the definition of the format (IEEE 754-2019, table 3.5): sign, exponent, fraction.
double ValueOf(std::uint32_t code) {
  const int exponent = static_cast<int>(code >> 10 & 0x1f), fraction = static_cast<int>(code & 0x3ff);
  const double sign = code & 0x8000 ? -1 : 1;
  if (exponent == 0x1f) return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  return exponent == 0 ? sign * std::ldexp(fraction, -14 - 10) : sign * std::ldexp(1024 + fraction, exponent - 15 - 10);
}

TEST(Float16, EveryCodeIsExactInFloatAndComesBack) {
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    const float value = static_cast<float>(Float16::FromBits(static_cast<std::uint16_t>(code)));
    const double expected = ValueOf(code);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_EQ(BitsOf(value) >> 31, code >> 15) << "the sign of a NaN";
      ASSERT_EQ(Float16(value).bits, code | 0x200) << "a NaN is made quiet";
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), expected) << code;
    ASSERT_EQ(Float16(value).bits, code);  // also the sign of zero
  }
}

// Between any two neighbouring finite codes, subnormal ones included: at the middle, and its neighbours among the f32.
TEST(Float16, RoundsToTheNearestAndTiesToEven) {
  for (const std::uint32_t sign : {0u, 0x8000u}) {
    for (std::uint32_t code = 0; code < 0x7c00; ++code) {
      const std::uint32_t low = sign | code, high = low + 1;
      // The last one's upper neighbour is infinity, to be taken for 2^16 where numbers are rounded.
      const double above = code == 0x7bff ? std::copysign(65536.0, sign ? -1 : 1) : ValueOf(high);
      const double exact = (ValueOf(low) + above) / 2;
      const auto middle = static_cast<float>(exact);
      ASSERT_EQ(static_cast<double>(middle), exact);
      const float towards_low = std::nextafter(middle, static_cast<float>(ValueOf(low)));
      const float towards_high = std::nextafter(middle, static_cast<float>(above));
      ASSERT_EQ(Float16(towards_low).bits, low);
      ASSERT_EQ(Float16(middle).bits, code % 2 == 0 ? low : high);
      ASSERT_EQ(Float16(towards_high).bits, high);
      if (code == 0x7bff) continue;
      ASSERT_EQ(Float16(std::nextafter(static_cast<float>(ValueOf(low)), static_cast<float>(above))).bits, low);
      ASSERT_EQ(Float16(std::nextafter(static_cast<float>(ValueOf(high)), static_cast<float>(ValueOf(low)))).bits, high);
    }
  }
}

// One f32 in 9,973 of all, against the nearest code found by bisection among the values.
TEST(Float16, AnyFloatGoesToTheNearestCode) {
  for (std::uint64_t wide = 0; wide < 0x7f800000u; wide += 9973) {
    const float value = FloatOf(static_cast<std::uint32_t>(wide));
    std::uint32_t low = 0, high = 0x7c00;  // the value lies from `low` on and below `high`
    while (high - low > 1) {
      const std::uint32_t code = (low + high) / 2;
      (ValueOf(code) <= value ? low : high) = code;
    }
    const double above = high == 0x7c00 ? 65536.0 : ValueOf(high), down = value - ValueOf(low), up = above - value;
    const std::uint32_t nearest = down < up || (down == up && low % 2 == 0) ? low : high;
    ASSERT_EQ(Float16(value).bits, nearest) << value;
    ASSERT_EQ(Float16(-value).bits, nearest | 0x8000);
  }
}

TEST(Float16, KeepsNotANumberAndInfinity) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Float16(infinity).bits, 0x7c00);
  EXPECT_EQ(Float16(-infinity).bits, 0xfc00);
  EXPECT_EQ(Float16(std::numeric_limits<float>::max()).bits, 0x7c00);
  EXPECT_EQ(Float16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(Float16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(Float16(65520.0f).bits, 0x7c00);
  // Payloads whose upper bits are zero, all ones (an addition would carry into the sign), signalling, negative.
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0x7f802000u, 0xffffffffu, 0xff800001u, 0x7fc00000u}) {
    const Float16 nan(FloatOf(bits));
    EXPECT_TRUE(std::isnan(static_cast<float>(nan))) << std::hex << bits;
    EXPECT_EQ(nan.bits >> 15, bits >> 31);
    EXPECT_NE(nan.bits & 0x200, 0) << "quiet";
  }
}

TEST(Float16, KnownValues) {
  EXPECT_EQ(Float16(1.0f).bits, 0x3c00);
  EXPECT_EQ(Float16(-2.0f).bits, 0xc000);
  EXPECT_EQ(Float16(3.14159265f).bits, 0x4248);  // 3.140625
  EXPECT_EQ(Float16(-0.0f).bits, 0x8000);
  EXPECT_EQ(Float16(0x1p-24f).bits, 1);  // the smallest subnormal
  EXPECT_EQ(Float16(0x1p-25f).bits, 0);  // half of it: a tie, to even
  EXPECT_EQ(Float16(0x1.8p-25f).bits, 1);
  EXPECT_EQ(Float16(0x1.ff8p-15f).bits, 0x3ff);  // the largest subnormal
  EXPECT_EQ(Float16(0x1.ffcp-15f).bits, 0x400);  // half a place more: a tie, to the smallest normal number
  EXPECT_EQ(Float16(FloatOf(1)).bits, 0);        // the smallest f32 subnormal
  EXPECT_EQ(static_cast<float>(Float16(2049.0f)), 2048.0f);
  EXPECT_EQ(static_cast<float>(Float16(2051.0f)), 2052.0f);
}

static_assert(Float16(1.5f).bits == 0x3e00 && static_cast<float>(Float16::FromBits(0x3e00)) == 1.5f, "usable in constant expressions");

}  // namespace
}  // namespace lycia
