// Comparing tensors in tests: the worst element is named, with its index, both values and what was allowed.
#ifndef LYCIA_KERNELS_TESTING_COMPARE_H_
#define LYCIA_KERNELS_TESTING_COMPARE_H_

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/tensor.h"

namespace lycia::testing {

// |actual - expected| <= absolute + of_largest * (largest |expected|) + relative * |expected|, for every element.
struct Tolerance {
  double absolute = 0;
  double of_largest = 0;
  double relative = 0;
};

// The types that kernels of activations take on every device; on CUDA also f16.
inline constexpr DType kStoredDTypes[] = {DType::kBF16, DType::kF32, DType::kF64};
// What a tensor of `dtype` may be off by where a kernel computes in f32 or f64 and rounds once to store it: `f32` or `f64`, and for bf16
// and f16 half a unit in the last place (at most 2^-8 and 2^-11 of the value, and 2^-25 where an f16 is subnormal) beside `f32`.
inline Tolerance StoredTolerance(DType dtype, Tolerance f32, const Tolerance& f64) {
  if (dtype == DType::kF64) return f64;
  if (dtype == DType::kBF16) f32.relative += 0x1p-8 * 1.01;
  if (dtype == DType::kF16) f32.relative += 0x1p-11 * 1.01;
  if (dtype == DType::kF16) f32.absolute += 0x1p-25 * 1.01;
  return f32;
}

// `shape` makes the printed index readable; empty: a flat array. Infinities must be equal, a NaN on either side is a failure.
::testing::AssertionResult AllNear(const std::vector<double>& actual, const std::vector<double>& expected, const Tolerance& tolerance,
                                   const Shape& shape = {});

// "[1, 0, 5]" for element `flat` of a tensor of this shape; "[flat]" for an empty shape.
std::string IndexString(std::int64_t flat, const Shape& shape);

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_TESTING_COMPARE_H_
