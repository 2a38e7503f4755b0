#include <cmath>

#include "kernels/reuse/build_index_map.h"
#include "runtime/core/check.h"

namespace lycia {

std::int64_t CellBytes(const ReuseRule& rule, DType dtype, std::int64_t rows) {
  if (rule.policy != ReusePolicy::kLsh) return 0;
  return (rows * rule.projections.rows * SizeOf(ArithmeticDType(dtype)) + 63) / 64 * 64;
}

void CheckRule(const ReuseRule& rule, DType dtype, std::int64_t depth) {
  LYCIA_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF64)
      << "rows are " << Name(dtype) << " ";
  if (rule.policy == ReusePolicy::kQuantized)
    LYCIA_CHECK(rule.delta > 0 && std::isfinite(1 / rule.delta)) << "delta = " << rule.delta << " ";
  if (rule.policy != ReusePolicy::kLsh) return;
  LYCIA_CHECK(rule.width > 0 && std::isfinite(1 / rule.width)) << "width = " << rule.width << " ";
  const ConstMatrix& a = rule.projections;
  LYCIA_CHECK(a.rows > 0 && a.cols == depth && a.dtype == dtype)
      << "projections are " << Name(a.dtype) << " [" << a.rows << ", " << a.cols << "] for rows of " << depth << " " << Name(dtype) << " ";
  LYCIA_CHECK(rule.shifts.dtype == DType::kF64 && rule.shifts.elements() == a.rows) << "shifts are not f64 [" << a.rows << "] ";
}

}  // namespace lycia
