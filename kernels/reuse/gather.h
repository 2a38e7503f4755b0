// From the rows of a partition to one row a cluster: its first row, or the mean of its members.
#ifndef LYCIA_KERNELS_REUSE_GATHER_H_
#define LYCIA_KERNELS_REUSE_GATHER_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "kernels/reuse/index_map.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// In all of these U = *map.size; rows of a result from U on are left alone, so M rows of memory always suffice, and U where it is known.

struct GatherRowsArgs {
  IndexMap map;   // a partition of M rows
  ConstMatrix x;  // [M, K] bf16, f32, f64 or i32
  Matrix to;      // [U, K] of x's type, = x[representatives]
};

// What the means have lost: sums over all rows, in f64.
struct ReuseMeter {
  double squares = 0;        // of |x|^2
  double error_squares = 0;  // of |x - c|^2, c the mean of x's cluster before it is rounded to its type
};
// The relative error |X - C| / |X|; 0 where X is zero.
double RelativeError(const ReuseMeter& meter);

// c = the mean of the members, in f32 (f64), and the meter in the same pass:
//   sum |x|^2 - sum n |c|^2,  taken about each cluster's first row, so that no large numbers cancel: equal rows have no error and a mean
//   of the same bits. Sums over members have the order of the rows.
struct ClusterMeansArgs {
  IndexMap map;                 // a partition of M rows
  ConstMatrix x;                // [M, K] bf16, f32 or f64
  Matrix to;                    // [U, K] of x's type
  ReuseMeter* meter = nullptr;  // on the device, =; may be null
  void* workspace = nullptr;    // ClusterMeansBytes, of f64; not needed without a meter
};
std::int64_t ClusterMeansBytes(std::int64_t rows);

// s[j] = sum of dy over the members of cluster j, in f32 (f64), in the order of the rows.
struct SegmentSumArgs {
  IndexMap map;       // a partition of M rows
  ConstMatrix dy;     // [M, N] bf16, f32 or f64
  Matrix to;          // [U, N] of dy's type, or f32 beside bf16
  bool mean = false;  // divided by the number of members
};

namespace cpu {
void GatherRows(Stream& stream, const GatherRowsArgs& args);
void ClusterMeans(Stream& stream, const ClusterMeansArgs& args);
void SegmentSum(Stream& stream, const SegmentSumArgs& args);
}  // namespace cpu
// The bits of the CPU where a row is copied; sums over members in the order of the rows too, those of a meter in one of their own.
namespace cuda {
void GatherRows(Stream& stream, const GatherRowsArgs& args);
void ClusterMeans(Stream& stream, const ClusterMeansArgs& args);
void SegmentSum(Stream& stream, const SegmentSumArgs& args);
}  // namespace cuda

inline void GatherRows(Stream& stream, const GatherRowsArgs& args) {
  Dispatch(
      stream, [&] { cpu::GatherRows(stream, args); }, [&] { cuda::GatherRows(stream, args); });
}
inline void ClusterMeans(Stream& stream, const ClusterMeansArgs& args) {
  Dispatch(
      stream, [&] { cpu::ClusterMeans(stream, args); }, [&] { cuda::ClusterMeans(stream, args); });
}
inline void SegmentSum(Stream& stream, const SegmentSumArgs& args) {
  Dispatch(
      stream, [&] { cpu::SegmentSum(stream, args); }, [&] { cuda::SegmentSum(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_GATHER_H_
