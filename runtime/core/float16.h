// Float16: IEEE 754 binary16 (5 bits of exponent, 10 of fraction; the largest number is 65504, the smallest 2^-24). A type of storage:
// arithmetic is done in float.
#ifndef LYCIA_RUNTIME_CORE_FLOAT16_H_
#define LYCIA_RUNTIME_CORE_FLOAT16_H_

#include <bit>
#include <cstdint>
#include <type_traits>

namespace lycia {

struct Float16 {
  std::uint16_t bits;

  Float16() = default;
  // Rounded to the nearest, ties to even; from 65520 on infinity; subnormals are kept; NaN stays NaN, made quiet, with its sign and the
  // upper bits of its payload. A double is rounded to float first.
  explicit constexpr Float16(float value) : bits(Round(std::bit_cast<std::uint32_t>(value))) {}
  // Exact, and so implicit.
  constexpr operator float() const { return Widen(bits); }  // NOLINT

  static constexpr Float16 FromBits(std::uint16_t bits) {
    Float16 value(0.0f);
    value.bits = bits;
    return value;
  }

 private:
  static constexpr std::uint32_t kSign = 0x80000000u;
  static constexpr int kDropped = 23 - 10;                                // bits of an f32's fraction
  static constexpr std::uint32_t kRebias = (127u - 15u) << 23;            // between the two exponents
  static constexpr std::uint32_t kInfinity32 = 0x7f800000u;               // and beyond it the NaNs
  static constexpr std::uint32_t kSmallestNormal32 = (127u - 14u) << 23;  // 2^-14
  static constexpr std::uint16_t kInfinity = 0x7c00u, kQuiet = 0x0200u;

  static constexpr std::uint16_t Round(std::uint32_t wide) {
    const auto sign = static_cast<std::uint16_t>((wide & kSign) >> 16);
    const std::uint32_t magnitude = wide & ~kSign;
    if (magnitude > kInfinity32) return static_cast<std::uint16_t>(sign | kInfinity | kQuiet | ((magnitude >> kDropped) & 0x3ffu));
    if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | kInfinity);  // 65520: half a place above the largest number
    if (magnitude < kSmallestNormal32) {
      // Beside 0.5, whose last place is 2^-24, the addition itself rounds to a multiple of that.
      const float counted = std::bit_cast<float>(magnitude) + 0.5f;
      return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(counted) - std::bit_cast<std::uint32_t>(0.5f)));
    }
    // Half of the last place that stays, less one where that place is even: a carry runs through into the exponent by itself.
    const std::uint32_t rounded = magnitude - kRebias + 0xfffu + ((magnitude >> kDropped) & 1u);
    return static_cast<std::uint16_t>(sign | (rounded >> kDropped));
  }

  static constexpr float Widen(std::uint16_t narrow) {
    const std::uint32_t sign = static_cast<std::uint32_t>(narrow & 0x8000u) << 16, magnitude = narrow & 0x7fffu;
    if (magnitude >= kInfinity) return std::bit_cast<float>(sign | kInfinity32 | ((magnitude & 0x3ffu) << kDropped));
    if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << kDropped) + kRebias));
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));
  }
};
static_assert(sizeof(Float16) == 2 && std::is_trivially_copyable_v<Float16> && std::is_standard_layout_v<Float16>);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_CORE_FLOAT16_H_
