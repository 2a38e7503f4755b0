// What computation reuse costs and saves on this machine, at given ratios of distinct rows, beside the dense products and beside what their
// rate and a copy's bandwidth allow: `lycia bench reuse`.
#ifndef LYCIA_LAUNCH_REUSE_BENCH_H_
#define LYCIA_LAUNCH_REUSE_BENCH_H_

#include <string>
#include <vector>

#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/cost_model.h"
#include "runtime/core/status.h"
#include "runtime/device/device.h"

namespace lycia {

struct ReuseBenchOptions {
  std::vector<ReuseRegion> regions;  // of two or three widths; the types are `dtypes`
  std::vector<DType> dtypes;         // f32, bf16
  std::vector<double> ratios;        // distinct rows to rows, in (0, 1]
  // How equal rows are found. Rows of the bench are equal in bits or far apart: every policy finds the same. Other than kExact takes means.
  ReusePolicy policy = ReusePolicy::kExact;
  bool copy_rows = false;  // first rows are copied before the product, not gathered by it
  CpuOptions cpu;
  double seconds = 0.2;  // of each row
};
// 4096 rows of 1024 -> 1024, 1024 -> 4096 -> 1024, 512 -> 512, 512 -> 4096, 4096 -> 1024.
std::vector<ReuseRegion> ReuseBenchRegions();

// One region at one ratio. Times are medians, in microseconds; dense and reuse were timed in alternation.
struct ReuseSpeed {
  ReuseRegion region;
  std::string policy;  // "exact", "quantized", "lsh"
  std::string isa;
  double ratio = 0;     // U / M, as found
  double dense_us = 0;  // the products of all rows, weights packed beforehand, GELU fused where there are three widths
  double hash_us = 0, gather_us = 0, gemm_us = 0, expand_us = 0;  // parts of reuse
  double reuse_us = 0;                                            // all of it
  double copy_gbps = 0;                                           // of a copy that moves as many bytes as reuse must beside its products
  double break_even = 0;                                          // of this region: where the line through the measured times meets dense
  bool same_bits = false;                                         // as the dense result

  double dense_gflops() const { return DenseFlops(region) / dense_us / 1e3; }
  double speedup() const { return dense_us / reuse_us; }
  // r T_dense + bytes / bandwidth.
  double limit_us() const { return 1e6 * ReuseSeconds(region, {.flops = dense_gflops() * 1e9, .bytes_per_s = copy_gbps * 1e9}, ratio); }
  double share_of_limit() const { return limit_us() / reuse_us; }
};

// InvalidArgument where there are no threads or cores as asked for, or a region or ratio that cannot be.
StatusOr<std::vector<ReuseSpeed>> MeasureReuse(const ReuseBenchOptions& options);

std::string ReuseSpeedTable(const std::vector<ReuseSpeed>& rows);
// A JSON array of objects: rows, widths, dtype, policy, isa and the numbers above.
std::string ReuseSpeedJson(const std::vector<ReuseSpeed>& rows);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_REUSE_BENCH_H_
