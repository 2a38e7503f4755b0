// BFloat16: the upper half of an f32 (8 bits of exponent, 7 of fraction). A type of storage: arithmetic is done in float.
#ifndef LYCIA_RUNTIME_CORE_BFLOAT16_H_
#define LYCIA_RUNTIME_CORE_BFLOAT16_H_

#include <bit>
#include <cstdint>
#include <type_traits>

namespace lycia {

struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;
  // Rounded to the nearest, ties to even; beyond the largest finite number infinity; subnormals are kept; NaN stays NaN, made quiet, with
  // its sign and the upper bits of its payload. A double is rounded to float first.
  explicit constexpr BFloat16(float value) : bits(Round(std::bit_cast<std::uint32_t>(value))) {}
  // Exact, and so implicit.
  constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }  // NOLINT

  static constexpr BFloat16 FromBits(std::uint16_t bits) {
    BFloat16 value(0.0f);
    value.bits = bits;
    return value;
  }

 private:
  static constexpr std::uint16_t Round(std::uint32_t wide) {
    const bool is_nan = (wide & 0x7fffffffu) > 0x7f800000u;
    // Half of the last place that stays, less one where that place is even: a carry runs through to infinity by itself.
    const std::uint32_t rounded = is_nan ? wide | 0x00400000u : wide + 0x7fffu + ((wide >> 16) & 1u);
    return static_cast<std::uint16_t>(rounded >> 16);
  }
};
static_assert(sizeof(BFloat16) == 2 && std::is_trivially_copyable_v<BFloat16> && std::is_standard_layout_v<BFloat16>);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_CORE_BFLOAT16_H_
