// What products over a partition of rows may be expected to cost, and from which ratio of distinct rows on they pay. Pure functions of
// sizes and of measured rates; for benches, controllers and planners.
#ifndef LYCIA_KERNELS_REUSE_COST_MODEL_H_
#define LYCIA_KERNELS_REUSE_COST_MODEL_H_

#include <cstdint>
#include <vector>

#include "runtime/core/dtype.h"

namespace lycia {

// A region of row-wise products: widths K, ..., N. {K, N}: one linear layer; {K, F, N}: an MLP. Rows are found once, at width K, and given
// back once, at width N.
struct ReuseRegion {
  std::int64_t rows = 0;  // M
  std::vector<std::int64_t> widths;
  DType dtype = DType::kF32;  // of operands and results
  bool means = false;         // clusters are means of their members, not first rows
};

// Of the machine, or of the share of it that runs the region.
struct ReuseRates {
  double flops = 0;          // FLOP/s of the dense product of this type
  double bytes_per_s = 0;    // of a copy, read and written bytes counted
  double fixed_seconds = 0;  // of all that does not grow: tables cleared, threads joined
  double mapped_flops = 0;   // FLOP/s of products of distinct rows; 0: those of the dense one
  double mapped() const { return mapped_flops > 0 ? mapped_flops : flops; }
};

double DenseFlops(const ReuseRegion& region);
// Bytes that reuse moves beside the products, each operand once, at unique ratio r = U / M: the rows, to find which are equal; the compact
// rows of the result and all of its rows, to give them back; for means the rows again and the compact rows.
double ReuseBytes(const ReuseRegion& region, double ratio);

double DenseSeconds(const ReuseRegion& region, const ReuseRates& rates);
// r flops / mapped rate + bytes / bandwidth.
double ReuseSeconds(const ReuseRegion& region, const ReuseRates& rates, double ratio);
// The ratio below which reuse is faster, at most 1; negative where it never is.
double BreakEvenRatio(const ReuseRegion& region, const ReuseRates& rates);

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_COST_MODEL_H_
