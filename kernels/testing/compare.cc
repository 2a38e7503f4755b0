#include "kernels/testing/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"

namespace lycia::testing {

std::string IndexString(std::int64_t flat, const Shape& shape) {
  if (shape.rank() == 0) return absl::StrFormat("[%d]", flat);
  std::string text = "]";
  for (int i = shape.rank() - 1; i >= 0; --i) {
    text = absl::StrFormat(i == 0 ? "%d%s" : ", %d%s", flat % shape[i], text);
    flat /= shape[i];
  }
  return "[" + text;
}

::testing::AssertionResult AllNear(const std::vector<double>& actual, const std::vector<double>& expected, const Tolerance& tolerance,
                                   const Shape& shape) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure() << actual.size() << " elements, expected " << expected.size();
  }
  double largest = 0;
  for (double e : expected) largest = std::isfinite(e) ? std::max(largest, std::abs(e)) : largest;
  double worst_excess = 0;
  std::int64_t worst = -1, wrong = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = actual[i], e = expected[i];
    const double allowed = tolerance.absolute + tolerance.of_largest * largest + tolerance.relative * std::abs(e);
    if (a == e || std::abs(a - e) <= allowed) continue;  // false for NaN, and for inf - inf unless equal
    ++wrong;
    const double excess = std::isfinite(a - e) ? std::abs(a - e) - allowed : std::numeric_limits<double>::infinity();
    if (worst < 0 || excess > worst_excess) {
      worst = static_cast<std::int64_t>(i);
      worst_excess = excess;
    }
  }
  if (worst < 0) return ::testing::AssertionSuccess();
  const double a = actual[static_cast<std::size_t>(worst)], e = expected[static_cast<std::size_t>(worst)];
  return ::testing::AssertionFailure() << absl::StrFormat(
             "%d of %d elements differ; worst at %s: actual %.17g, expected %.17g, difference %.3g, allowed %.3g", wrong, actual.size(),
             IndexString(worst, shape), a, e, std::abs(a - e),
             tolerance.absolute + tolerance.of_largest * largest + tolerance.relative * std::abs(e));
}

}  // namespace lycia::testing
