#include "runtime/core/bfloat16.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace lycia {
namespace {

std::uint32_t BitsOf(float x) { return std::bit_cast<std::uint32_t>(x); }
float FloatOf(std::uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(BFloat16, EveryCodeIsExactInFloatAndComesBack) {
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    const float value = static_cast<float>(BFloat16::FromBits(static_cast<std::uint16_t>(code)));
    // The value by the definition of the format: sign, exponent, fraction.
    const int exponent = static_cast<int>(code >> 7 & 0xff), fraction = static_cast<int>(code & 0x7f);
    const double sign = code & 0x8000 ? -1 : 1;
    if (exponent == 0xff && fraction != 0) {
      EXPECT_TRUE(std::isnan(value)) << code;
      EXPECT_EQ(BFloat16(value).bits, code | 0x40) << "a NaN is made quiet";
      continue;
    }
    const double expected = exponent == 0xff ? sign * std::numeric_limits<double>::infinity()
                            : exponent == 0  ? sign * std::ldexp(fraction, -126 - 7)
                                             : sign * std::ldexp(128 + fraction, exponent - 127 - 7);
    ASSERT_EQ(static_cast<double>(value), expected) << code;
    ASSERT_EQ(BFloat16(value).bits, code);  // also the sign of zero
  }
}

// Between any two neighbouring finite codes: just below, at and just above the middle.
TEST(BFloat16, RoundsToTheNearestAndTiesToEven) {
  for (const std::uint32_t sign : {0u, 0x8000u}) {
    for (std::uint32_t code = 0; code < 0x7f80; ++code) {  // the last one's upper neighbour is infinity
      const std::uint32_t low = sign | code, high = low + 1, middle = low << 16 | 0x8000;
      ASSERT_EQ(BFloat16(FloatOf(middle - 1)).bits, low);
      ASSERT_EQ(BFloat16(FloatOf(middle)).bits, low % 2 == 0 ? low : high);
      ASSERT_EQ(BFloat16(FloatOf(middle + 1)).bits, high);
      ASSERT_EQ(BFloat16(FloatOf(low << 16 | 1)).bits, low);
      ASSERT_EQ(BFloat16(FloatOf(low << 16 | 0xffff)).bits, high);
    }
  }
}

TEST(BFloat16, KeepsNotANumberAndInfinity) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(BFloat16(infinity).bits, 0x7f80);
  EXPECT_EQ(BFloat16(-infinity).bits, 0xff80);
  EXPECT_EQ(BFloat16(std::numeric_limits<float>::max()).bits, 0x7f80);  // nearer to 2^128 than to the largest bf16
  // Payloads whose upper bits are zero, all ones (an addition would carry into the sign), signalling, negative.
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0x7f808000u, 0xffffffffu, 0xff800001u, 0x7fc00000u}) {
    const BFloat16 nan(FloatOf(bits));
    EXPECT_TRUE(std::isnan(static_cast<float>(nan))) << std::hex << bits;
    EXPECT_EQ(nan.bits >> 15, bits >> 31);
    EXPECT_NE(nan.bits & 0x40, 0) << "quiet";
  }
}

TEST(BFloat16, KnownValues) {
  EXPECT_EQ(BFloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(BFloat16(-2.0f).bits, 0xc000);
  EXPECT_EQ(BFloat16(3.14159265f).bits, 0x4049);  // 3.140625
  EXPECT_EQ(BFloat16(-0.0f).bits, 0x8000);
  EXPECT_EQ(BFloat16(FloatOf(1)).bits, 0);           // the smallest f32 subnormal
  EXPECT_EQ(BFloat16(FloatOf(0x00010000)).bits, 1);  // the smallest bf16 subnormal
  EXPECT_EQ(BitsOf(static_cast<float>(BFloat16(0x1p-130f))), BitsOf(0x1p-130f));
  EXPECT_EQ(static_cast<float>(BFloat16(257.0f)), 256.0f);
  EXPECT_EQ(static_cast<float>(BFloat16(259.0f)), 260.0f);
}

static_assert(BFloat16(1.5f).bits == 0x3fc0, "usable in constant expressions");

}  // namespace
}  // namespace lycia
