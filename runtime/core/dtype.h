// Number types. f64 stands beside f32 everywhere on the CPU: it is where layouts are proven equal.
#ifndef LYCIA_RUNTIME_CORE_DTYPE_H_
#define LYCIA_RUNTIME_CORE_DTYPE_H_

#include <cstdint>
#include <cstring>
#include <string_view>

#include "runtime/core/bfloat16.h"
#include "runtime/core/check.h"
#include "runtime/core/float16.h"

namespace lycia {

enum class DType : std::uint8_t { kU8, kI32, kI64, kBF16, kF16, kF32, kF64 };

constexpr std::int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kU8: return 1;
    case DType::kBF16:
    case DType::kF16: return 2;
    case DType::kI32:
    case DType::kF32: return 4;
    case DType::kI64:
    case DType::kF64: return 8;
  }
  return 0;
}

constexpr std::string_view Name(DType dtype) {
  switch (dtype) {
    case DType::kU8: return "u8";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
    case DType::kBF16: return "bf16";
    case DType::kF16: return "f16";
    case DType::kF32: return "f32";
    case DType::kF64: return "f64";
  }
  return "?";
}

template <typename T>
struct DTypeOf;
template <> struct DTypeOf<std::uint8_t> { static constexpr DType value = DType::kU8; };
template <> struct DTypeOf<std::int32_t> { static constexpr DType value = DType::kI32; };
template <> struct DTypeOf<std::int64_t> { static constexpr DType value = DType::kI64; };
template <> struct DTypeOf<BFloat16> { static constexpr DType value = DType::kBF16; };
template <> struct DTypeOf<Float16> { static constexpr DType value = DType::kF16; };
template <> struct DTypeOf<float> { static constexpr DType value = DType::kF32; };
template <> struct DTypeOf<double> { static constexpr DType value = DType::kF64; };

// Calls f.template operator()<float>() or <double>(); any other dtype is a broken promise of the caller.
template <typename F>
decltype(auto) DispatchFloat(DType dtype, F&& f) {
  if (dtype == DType::kF64) return f.template operator()<double>();
  LYCIA_CHECK(dtype == DType::kF32) << "dtype " << Name(dtype) << " is not f32 or f64 ";
  return f.template operator()<float>();
}

// For tensors that may also be stored as bf16: f.template operator()<BFloat16>(), <float>() or <double>().
template <typename F>
decltype(auto) DispatchStored(DType dtype, F&& f) {
  if (dtype == DType::kBF16) return f.template operator()<BFloat16>();
  if (dtype == DType::kF64) return f.template operator()<double>();
  LYCIA_CHECK(dtype == DType::kF32) << "dtype " << Name(dtype) << " is not bf16, f32 or f64 ";
  return f.template operator()<float>();
}

// The same with f16, which only CUDA's kernels take: f.template operator()<Float16>() besides.
template <typename F>
decltype(auto) DispatchAnyStored(DType dtype, F&& f) {
  if (dtype == DType::kF16) return f.template operator()<Float16>();
  return DispatchStored(dtype, f);
}

namespace internal {
template <typename T>
struct ArithmeticOf { using type = T; };
template <>
struct ArithmeticOf<BFloat16> { using type = float; };
template <>
struct ArithmeticOf<Float16> { using type = float; };
}  // namespace internal

// What a kernel computes and accumulates in when its tensors are stored as T.
template <typename T>
using Arithmetic = typename internal::ArithmeticOf<T>::type;
// The dtype of that: of statistics, and of gradients and state of parameters, beside tensors of `dtype`.
constexpr DType ArithmeticDType(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16 ? DType::kF32 : dtype; }

}  // namespace lycia

#endif  // LYCIA_RUNTIME_CORE_DTYPE_H_
