#include "kernels/cpu/vector_stored.h"

#include <bit>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/testing/every_isa.h"
#include "runtime/core/philox.h"

namespace lycia::cpu {
namespace {

std::vector<BFloat16> Narrow(const std::vector<float>& values) {
  std::vector<BFloat16> codes(values.size());
  ForBestIsa([&](auto isa) LYCIA_INLINE {
    using V = Vector<float, decltype(isa)::value>;
    for (std::size_t i = 0; i < values.size(); i += kLanes<V>) StoreAs<V>(codes.data() + i, Load<V>(values.data() + i));
  });
  return codes;
}

TEST(VectorStored, EveryBf16CodeIsExactBothWays) {
  std::vector<BFloat16> codes;
  for (std::uint32_t code = 0; code < 0x10000; ++code) codes.push_back(BFloat16::FromBits(static_cast<std::uint16_t>(code)));
  testing::ForEveryIsa([&] {
    std::vector<float> values(codes.size());
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<float, decltype(isa)::value>;
      for (std::size_t i = 0; i < codes.size(); i += kLanes<V>) Store<V>(values.data() + i, LoadAs<V>(codes.data() + i));
    });
    const std::vector<BFloat16> back = Narrow(values);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), static_cast<std::uint32_t>(codes[i].bits) << 16);
      ASSERT_EQ(back[i].bits, BFloat16(values[i]).bits);
    }
  });
}

// Any bits at all: ties, overflow, subnormals and NaNs with every payload are among them.
TEST(VectorStored, RoundsAsBFloat16Does) {
  const RandomStream random(3, "bits", 0);
  std::vector<float> values;
  for (std::uint64_t i = 0; i < 100000; ++i) values.push_back(std::bit_cast<float>(random.Bits(i)));
  for (std::uint64_t i = 0; i < 65536; ++i) values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(i << 16 | 0x8000)));
  for (std::uint64_t i = 0; i < 16; ++i) values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(0x7f800001 + (i << 15))));
  while (values.size() % 16 != 0) values.push_back(0);
  testing::ForEveryIsa([&] {
    const std::vector<BFloat16> codes = Narrow(values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(codes[i].bits, BFloat16(values[i]).bits) << std::hex << std::bit_cast<std::uint32_t>(values[i]);
    }
  });
}

// All of them: each code's own value, next to it, next to the middle, the middle, before the next code. Subnormals, infinities and every
// upper half of a NaN are among the codes; NaNs that a rounding would carry into infinity or through the sign, among the values.
TEST(VectorStored, RoundsAtEveryBoundary) {
  for (const std::uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
    std::vector<float> values;
    for (std::uint32_t upper = 0; upper < 0x10000; ++upper) values.push_back(std::bit_cast<float>(upper << 16 | lower));
    testing::ForEveryIsa([&] {
      const std::vector<BFloat16> codes = Narrow(values);
      std::vector<float> rounded(values.size());
      ForBestIsa([&](auto isa) LYCIA_INLINE {
        using V = Vector<float, decltype(isa)::value>;
        for (std::size_t i = 0; i < values.size(); i += kLanes<V>) {
          Store<V>(rounded.data() + i, RoundedTo<BFloat16>(Load<V>(values.data() + i)));
        }
      });
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint16_t expected = BFloat16(values[i]).bits;
        ASSERT_EQ(codes[i].bits, expected) << std::hex << std::bit_cast<std::uint32_t>(values[i]);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(rounded[i]), static_cast<std::uint32_t>(expected) << 16);
      }
    });
  }
}

// Parts of every length from and to an array that ends there (AddressSanitizer watches it), with a NaN and a subnormal in them.
template <typename S>
void TestParts() {
  constexpr int kMost = 16;
  const float values[kMost] = {
      1,  -2.5f,  std::bit_cast<float>(0x7f810000u), std::bit_cast<float>(0x00018000u), 3, 1e-30f, 7, 8, 9, 10.25f, 0, -0.0f, 13, -1e30f,
      15, 16.125f};
  testing::ForEveryIsa([&] {
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<float, decltype(isa)::value>;
      for (int count = 0; count <= kLanes<V>; ++count) {
        std::vector<S> from, to(kMost + 1, S(-1.0f));
        for (int i = 0; i < count; ++i) from.push_back(S(values[i]));
        from.shrink_to_fit();
        const V part = LoadPartAs<V>(from.data(), count, 9.0f);
        for (int i = 0; i < kLanes<V>; ++i) {
          const float expected = i < count ? static_cast<float>(from[i]) : 9.0f;
          EXPECT_EQ(std::bit_cast<std::uint32_t>(static_cast<float>(part[i])), std::bit_cast<std::uint32_t>(expected)) << count << " " << i;
        }
        V all{};
        for (int i = 0; i < kLanes<V>; ++i) all[i] = values[i];
        StorePartAs<V>(to.data(), all, count);
        for (int i = 0; i <= kMost; ++i) {
          const float stored = static_cast<float>(to[i]), expected = i < count ? static_cast<float>(S(values[i])) : -1.0f;
          EXPECT_EQ(std::bit_cast<std::uint32_t>(stored), std::bit_cast<std::uint32_t>(expected)) << count << " " << i;
        }
      }
    });
  });
}
TEST(VectorStored, PartsOfBf16) { TestParts<BFloat16>(); }
TEST(VectorStored, PartsOfF32) { TestParts<float>(); }

TEST(VectorStored, PartsStayInside) {
  BFloat16 from[40], to[40];
  for (int i = 0; i < 40; ++i) from[i] = BFloat16(static_cast<float>(i)), to[i] = BFloat16(-1.0f);
  testing::ForEveryIsa([&] {
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<float, decltype(isa)::value>;
      const V part = LoadPartAs<V>(from + 1, 3, 9.0f);
      for (int i = 0; i < kLanes<V>; ++i) EXPECT_EQ(part[i], i < 3 ? static_cast<float>(i + 1) : 9.0f);
      StorePartAs<V>(to, part, 2);
    });
    EXPECT_EQ(static_cast<float>(to[1]), 2.0f);
    EXPECT_EQ(static_cast<float>(to[2]), -1.0f);
  });
}

}  // namespace
}  // namespace lycia::cpu
