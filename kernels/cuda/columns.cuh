// Reductions over the rows of a matrix, column by column, in a fixed order, without atomics. Bytes moved: the matrices once, and splits *
// cols * numbers partial results written and read, a few percent. What is reduced is a struct:
//
//   struct Sum {
//     using Number = float;                       // what it computes in
//     static constexpr int kNumbers = 1;          // of a column's state, which begins as zeros
//     static constexpr int kVector = kWidest<T>;  // columns of a thread where all operands allow it
//     template <int V> __device__ void Add(Number (&s)[kNumbers][V], std::int64_t count, std::int64_t row, std::int64_t col) const;
//     static __device__ void Merge(Number (&s)[kNumbers], std::int64_t count, const Number (&other)[kNumbers], std::int64_t others);
//     __device__ void Finish(std::int64_t group, std::int64_t col, const Number (&s)[kNumbers]) const;
//   };
// count: rows in the state so far, others: in `other`. V columns from col on; row counts over all groups.
#ifndef LYCIA_KERNELS_CUDA_COLUMNS_CUH_
#define LYCIA_KERNELS_CUDA_COLUMNS_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/column_launch.h"
#include "kernels/cuda/map_launch.h"
#include "kernels/cuda/pack.cuh"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

// Grid: (tiles, splits, groups) blocks of (32, warps).
template <typename R, int V>
__global__ void __launch_bounds__(32 * kColumnWarps)
    ColumnKernel(R reduction, std::int64_t rows, std::int64_t cols, typename R::Number* partial) {
  using A = typename R::Number;
  constexpr int N = R::kNumbers, kTile = 32 * V;
  __shared__ A of_warp[kColumnWarps][N][kTile];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y), warps = static_cast<int>(blockDim.y);
  const std::int64_t first_col = std::int64_t{blockIdx.x} * kTile, col = first_col + lane * V;
  const std::int64_t stride = std::int64_t{gridDim.y} * warps, first = std::int64_t{blockIdx.y} * warps, group = blockIdx.z;

  A state[N][V] = {};
  if (col < cols) {
    std::int64_t count = 0;
#pragma unroll 4
    for (std::int64_t row = first + warp; row < rows; row += stride, ++count) {
      reduction.template Add<V>(state, count, group * rows + row, col);
    }
  }
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int k = 0; k < V; ++k) of_warp[warp][n][lane * V + k] = state[n][k];
  }
  __syncthreads();
  for (int c = warp * 32 + lane; c < kTile && first_col + c < cols; c += 32 * warps) {
    A sum[N];
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] = of_warp[0][n][c];
    std::int64_t count = RowsTaken(rows, stride, first, 1);
    for (int w = 1; w < warps; ++w) {
      A other[N];
#pragma unroll
      for (int n = 0; n < N; ++n) other[n] = of_warp[w][n][c];
      const std::int64_t others = RowsTaken(rows, stride, first + w, 1);
      R::Merge(sum, count, other, others);
      count += others;
    }
    if (gridDim.y == 1) {
      reduction.Finish(group, first_col + c, sum);
    } else {
#pragma unroll
      for (int n = 0; n < N; ++n) partial[((group * gridDim.y + blockIdx.y) * N + n) * cols + first_col + c] = sum[n];
    }
  }
}

// Merges the splits of each column. Grid: (columns / 32, groups) blocks of (32, kFinishWarps).
template <typename R>
__global__ void __launch_bounds__(32 * kFinishWarps)
    FinishColumnsKernel(R reduction, std::int64_t rows, std::int64_t cols, const typename R::Number* partial, int splits, int warps) {
  using A = typename R::Number;
  constexpr int N = R::kNumbers;
  __shared__ A of_warp[kFinishWarps][N][32];
  __shared__ std::int64_t rows_of_warp[kFinishWarps];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const std::int64_t col = std::int64_t{blockIdx.x} * 32 + lane, group = blockIdx.y;
  A sum[N] = {};
  std::int64_t count = 0;
#pragma unroll 4
  for (int split = warp; split < splits; split += kFinishWarps) {
    A other[N] = {};
    if (col < cols) {
#pragma unroll
      for (int n = 0; n < N; ++n) other[n] = partial[((group * splits + split) * N + n) * cols + col];
    }
    const std::int64_t others = RowsTaken(rows, std::int64_t{splits} * warps, std::int64_t{split} * warps, warps);
    R::Merge(sum, count, other, others);
    count += others;
  }
#pragma unroll
  for (int n = 0; n < N; ++n) of_warp[warp][n][lane] = sum[n];
  if (lane == 0) rows_of_warp[warp] = count;
  __syncthreads();
  if (warp != 0 || col >= cols) return;
  for (int w = 1; w < kFinishWarps; ++w) {
    A other[N];
#pragma unroll
    for (int n = 0; n < N; ++n) other[n] = of_warp[w][n][lane];
    R::Merge(sum, count, other, rows_of_warp[w]);
    count += rows_of_warp[w];
  }
  reduction.Finish(group, col, sum);
}

// `operands`: the matrices that Add reads, with their leading dimensions.
template <typename R>
void LaunchColumns(Stream& stream, const char* kernel, std::int64_t groups, std::int64_t rows, std::int64_t cols,
                   std::initializer_list<MapOperand> operands, const R& reduction) {
  using A = typename R::Number;
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || rows == 0 || cols == 0 || groups == 0) return;
  const ColumnProblem problem{groups, rows, cols, R::kVector};
  const ColumnLaunch launch = ChooseColumnLaunch(problem);
  const bool wide = cols % R::kVector == 0 && MapAllows(R::kVector, operands);
  const std::int64_t tiles = ColumnTiles(problem, wide ? R::kVector : 1);
  auto* partial = static_cast<A*>(target.kernel_workspace);
  const std::int64_t bytes = groups * launch.splits * R::kNumbers * cols * static_cast<std::int64_t>(sizeof(A));
  if (launch.splits > 1 && bytes > kKernelWorkspaceBytes)
    return stream.Fail(absl::InternalError(absl::StrCat(kernel, ": ", bytes, " bytes of partial sums")));
  const cudaLaunchConfig_t config =
      LaunchConfig(target, dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(launch.splits), static_cast<unsigned>(groups)),
                   dim3(32, static_cast<unsigned>(launch.warps)));
  cudaError_t error = wide ? cudaLaunchKernelEx(&config, ColumnKernel<R, R::kVector>, reduction, rows, cols, partial)
                           : cudaLaunchKernelEx(&config, ColumnKernel<R, 1>, reduction, rows, cols, partial);
  if (error == cudaSuccess && launch.splits > 1) {
    const cudaLaunchConfig_t finish =
        LaunchConfig(target, dim3(static_cast<unsigned>((cols + 31) / 32), static_cast<unsigned>(groups)), dim3(32, kFinishWarps));
    error = cudaLaunchKernelEx(&finish, FinishColumnsKernel<R>, reduction, rows, cols, static_cast<const A*>(partial), launch.splits,
                               launch.warps);
  }
  if (error != cudaSuccess)
    stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, absl::StrCat(groups, " groups of [", rows, ", ", cols, "]")));
}

// Merge of sums.
template <typename A, int N>
__device__ __forceinline__ void MergeSums(A (&sum)[N], const A (&other)[N]) {
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] += other[n];
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_COLUMNS_CUH_
