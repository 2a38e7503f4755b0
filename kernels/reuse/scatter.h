// From one row a cluster to all rows of a partition.
#ifndef LYCIA_KERNELS_REUSE_SCATTER_H_
#define LYCIA_KERNELS_REUSE_SCATTER_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "kernels/reuse/index_map.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// y[m] = c[ids[m]] (/ n of the cluster) (+ residual[m]). Without either, bits are copied; else in f32 (f64), rounded once.
struct ScatterRowsArgs {
  IndexMap map;          // a partition of M rows
  ConstMatrix c;         // [U, N] of y's type; for sums with a residual in bf16 also f32, so that they are rounded once
  Matrix y;              // [M, N] bf16, f32 or f64; overlaps no other operand
  bool mean = false;     // divided by the number of members: the gradient of a mean
  ConstMatrix residual;  // [M, N] of y's type; absent when data is null
};

namespace cpu {
void ScatterRows(Stream& stream, const ScatterRowsArgs& args);
}  // namespace cpu
namespace cuda {
void ScatterRows(Stream& stream, const ScatterRowsArgs& args);
}  // namespace cuda

inline void ScatterRows(Stream& stream, const ScatterRowsArgs& args) {
  Dispatch(
      stream, [&] { cpu::ScatterRows(stream, args); }, [&] { cuda::ScatterRows(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_SCATTER_H_
