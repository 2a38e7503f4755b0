// BuildIndexMap on CUDA, without the host knowing anything of the rows.
//   project  (lsh) a warp computes eight projections of four rows at a time, so that what it reads of a serves four; then their cells
//   sign     a warp reads a row once, in pieces of 16 bytes;  link, number: cluster_rows.cuh
// So the map is the CPU's, whatever order threads come in (lsh: but for projections that rounding puts across a border). Bytes moved: all
// rows once to sign them, and those that repeat a second time beside their first rows, (1 + 2 (1 - r)) M K elements at most; the table, 12
// bytes a slot. lsh reads the rows once more, with 2 M K H operations on the ordinary units and H K elements of a for every four rows,
// from L2. Bound by memory bandwidth. Share of it: not yet run.
#include <cuda_runtime.h>

#include "kernels/cuda/map.cuh"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/cluster_rows.cuh"
#include "kernels/reuse/row_words.cuh"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr int kRowsTogether = 4;

template <typename S>
struct Projections {
  using A = Arithmetic<S>;
  const S *x, *a;  // [rows, depth], [count, depth]
  std::int64_t x_ld, a_ld, rows;
  int depth, count;
  A scale;               // 1 / width
  const double* shifts;  // [count]
  A* cells;              // [rows, count]
};

template <typename S, int V>
__global__ void __launch_bounds__(32 * kRowWarps) ProjectRowsKernel(Projections<S> p) {
  using A = Arithmetic<S>;
  constexpr int kTogether = static_cast<int>(kProjections);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t first_row = (std::int64_t{blockIdx.x} * kRowWarps + static_cast<int>(threadIdx.x) / 32) * kRowsTogether;
  if (first_row >= p.rows) return;
  for (int first = 0; first < p.count; first += kTogether) {
    A sums[kRowsTogether][kTogether] = {};
    for (int k = lane * V; k < p.depth; k += 32 * V) {
      Values<A, V> x[kRowsTogether];
#pragma unroll
      for (int r = 0; r < kRowsTogether; ++r) {
        const std::int64_t row = first_row + r < p.rows ? first_row + r : first_row;
        x[r] = Load<V>(p.x + row * p.x_ld + k);
      }
#pragma unroll
      for (int h = 0; h < kTogether; ++h) {
        if (first + h >= p.count) break;
        const Values<A, V> a = Load<V>(p.a + (first + h) * p.a_ld + k);
#pragma unroll
        for (int r = 0; r < kRowsTogether; ++r) {
#pragma unroll
          for (int i = 0; i < V; ++i) sums[r][h] += x[r][i] * a[i];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsTogether; ++r) {
#pragma unroll
      for (int h = 0; h < kTogether; ++h) {
        A sum = sums[r][h];
#pragma unroll
        for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
        if (lane != h || first + h >= p.count || first_row + r >= p.rows) continue;
        p.cells[(first_row + r) * p.count + first + h] = CellOf(sum, p.scale, p.shifts[first + h]);
      }
    }
  }
}

// Cells of all rows.
template <typename S>
void Project(Stream& stream, const BuildIndexMapArgs& args, Arithmetic<S>* cells) {
  const ConstMatrix &x = args.rows, &a = args.rule.projections;
  if (x.rows == 0) return;
  const Projections<S> p{.x = static_cast<const S*>(x.data),
                         .a = static_cast<const S*>(a.data),
                         .x_ld = x.ld,
                         .a_ld = a.ld,
                         .rows = x.rows,
                         .depth = static_cast<int>(x.cols),
                         .count = static_cast<int>(a.rows),
                         .scale = static_cast<Arithmetic<S>>(1 / args.rule.width),
                         .shifts = args.rule.shifts.as<double>(),
                         .cells = cells};
  constexpr int kVector = kWidest<S>;
  const bool wide = x.cols % kVector == 0 && MapAllows(kVector, {Rows(p.x, p.x_ld), Rows(p.a, p.a_ld)});
  const unsigned blocks = RowBlocks((x.rows + kRowsTogether - 1) / kRowsTogether);
  const cudaLaunchConfig_t config = LaunchConfig(TargetOf(stream), dim3(blocks), dim3(32 * kRowWarps));
  const cudaError_t error =
      wide ? cudaLaunchKernelEx(&config, ProjectRowsKernel<S, kVector>, p) : cudaLaunchKernelEx(&config, ProjectRowsKernel<S, 1>, p);
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "BuildIndexMap, lsh", __FILE__, __LINE__, args.map.ToString()));
}

template <typename S, bool kWide>
void Build(Stream& stream, const BuildIndexMapArgs& args) {
  constexpr const char* kKernel = "BuildIndexMap";
  const ConstMatrix& x = args.rows;
  using U = BitsOf<S>;
  using Bits = BitKeys<U, kWide>;
  const Bits bits{{static_cast<const U*>(x.data), x.ld, static_cast<int>(x.cols)}};
  switch (args.rule.policy) {
    case ReusePolicy::kExact:
      return ClusterByKeys(stream, kKernel, bits, args.map, args.workspace);
    case ReusePolicy::kQuantized:
      return ClusterByKeys(stream, kKernel, QuantizedKeys<S, U, kWide>{bits, static_cast<Arithmetic<S>>(1 / args.rule.delta)}, args.map,
                           args.workspace);
    case ReusePolicy::kLsh: {
      auto* const cells = static_cast<Arithmetic<S>*>(args.workspace);
      Project<S>(stream, args, cells);
      return ClusterByKeys(stream, kKernel, CellKeys<Arithmetic<S>, Bits>{bits, cells, static_cast<int>(args.rule.projections.rows)},
                           args.map, static_cast<char*>(args.workspace) + CellBytes(args.rule, x.dtype, x.rows));
    }
  }
}

}  // namespace

void BuildIndexMap(Stream& stream, const BuildIndexMapArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "BuildIndexMap")) return;
  const ConstMatrix& x = args.rows;
  LYCIA_CHECK_EQ(x.rows, args.map.extent);
  LYCIA_CHECK(x.ld >= x.cols) << "a leading dimension is shorter than its row ";
  CheckRule(args.rule, x.dtype, x.cols);
  if (x.rows > kMostClusteredRows || x.cols > INT32_MAX / 4) {
    return stream.Fail(InvalidArgument("BuildIndexMap on CUDA: [", x.rows, ", ", x.cols, "] is more than ", kMostClusteredRows,
                                       " rows, or 2^29 columns; use smaller micro-batches"));
  }
  DispatchAnyStored(x.dtype, [&]<typename S>() {
    using U = BitsOf<S>;
    const bool wide = MapAllows(kPieceElements<U>, {Rows(static_cast<const U*>(x.data), x.ld)});
    return wide ? Build<S, true>(stream, args) : Build<S, false>(stream, args);
  });
}

}  // namespace lycia::cuda
