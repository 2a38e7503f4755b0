#include "kernels/reuse/cost_model.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia {
namespace {

// Bytes that do not depend on the ratio, and those that grow with it.
struct Bytes {
  double fixed = 0, of_ratio = 0;
};
Bytes BytesOf(const ReuseRegion& region) {
  LYCIA_CHECK(region.widths.size() >= 2) << "a region has an input and an output width ";
  const double row = static_cast<double>(region.rows * SizeOf(region.dtype));
  const double in = row * static_cast<double>(region.widths.front()), out = row * static_cast<double>(region.widths.back());
  if (region.means) return {2 * in + out, in + out};
  return {in + out, out};
}

}  // namespace

double DenseFlops(const ReuseRegion& region) {
  double flops = 0;
  for (std::size_t i = 0; i + 1 < region.widths.size(); ++i) {
    flops += 2.0 * static_cast<double>(region.rows) * static_cast<double>(region.widths[i]) * static_cast<double>(region.widths[i + 1]);
  }
  return flops;
}

double ReuseBytes(const ReuseRegion& region, double ratio) {
  const Bytes bytes = BytesOf(region);
  return bytes.fixed + ratio * bytes.of_ratio;
}

double DenseSeconds(const ReuseRegion& region, const ReuseRates& rates) { return DenseFlops(region) / rates.flops; }

double ReuseSeconds(const ReuseRegion& region, const ReuseRates& rates, double ratio) {
  return ratio * DenseFlops(region) / rates.mapped() + ReuseBytes(region, ratio) / rates.bytes_per_s + rates.fixed_seconds;
}

double BreakEvenRatio(const ReuseRegion& region, const ReuseRates& rates) {
  const Bytes bytes = BytesOf(region);
  const double dense = DenseSeconds(region, rates), fixed = bytes.fixed / rates.bytes_per_s + rates.fixed_seconds;
  if (fixed >= dense) return -1;
  return std::min(1.0, (dense - fixed) / (DenseFlops(region) / rates.mapped() + bytes.of_ratio / rates.bytes_per_s));
}

}  // namespace lycia
