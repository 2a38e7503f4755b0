// Means of clusters on CUDA, and what they lose (gather.h): a block has a cluster, a thread up to 16 bytes of columns at a time, so that a
// cluster's members are added in the order of the rows; blocks beyond the clusters leave. With d = x - x0, x0 the first member,
//   c = x0 + sum d / n  and  sum |x - c|^2 = sum |d|^2 - |sum d|^2 / n.
// The meter's squares are summed in f64, block by block, then by one block. Bytes moved: all rows read, U written. Bound by memory
// bandwidth where clusters are many; a cluster of thousands of rows keeps one block busy. Share of the bandwidth: not yet run.
#include <cuda_runtime.h>

#include "kernels/cuda/map.cuh"
#include "kernels/reuse/block_sum.cuh"
#include "kernels/reuse/gather.h"

namespace lycia::cuda {
namespace {

template <typename S>
struct Means {
  IndexMap map;
  const S* x;
  S* to;
  std::int64_t ld, to_ld, cols;
  ReuseMeter* squares;  // [U], of clusters; null: no meter
};

template <typename S, int V>
__global__ void __launch_bounds__(kSumThreads) ClusterMeansKernel(Means<S> p) {
  using A = Arithmetic<S>;
  const std::int64_t j = blockIdx.x;
  if (j >= *p.map.size) return;
  const std::int32_t* members = p.map.members + p.map.offsets[j];
  const int count = p.map.counts[j];
  const A n = static_cast<A>(count);
  double sums[2] = {};
  for (std::int64_t col = static_cast<int>(threadIdx.x) * V; col < p.cols; col += kSumThreads * V) {
    const Values<A, V> first = Load<V>(p.x + members[0] * p.ld + col);
    Values<A, V> sum{};
    double of_x = 0, of_d = 0, of_sum = 0;
    if (p.squares != nullptr) {
#pragma unroll
      for (int k = 0; k < V; ++k) of_x += static_cast<double>(first[k]) * static_cast<double>(first[k]);
    }
    for (int i = 1; i < count; ++i) {
      const Values<A, V> x = Load<V>(p.x + members[i] * p.ld + col);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const A d = x[k] == first[k] ? A(0) : x[k] - first[k];
        sum[k] += d;
        if (p.squares == nullptr) continue;
        of_x += static_cast<double>(x[k]) * static_cast<double>(x[k]);
        of_d += static_cast<double>(d) * static_cast<double>(d);
      }
    }
    Values<A, V> mean;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      mean[k] = first[k] + sum[k] / n;
      of_sum += static_cast<double>(sum[k]) * static_cast<double>(sum[k]);
    }
    Store<V>(p.to + j * p.to_ld + col, mean);
    sums[0] += of_x;
    sums[1] += of_d - of_sum / static_cast<double>(count);
  }
  if (p.squares == nullptr) return;
  SumBlock(sums);
  if (threadIdx.x == 0) p.squares[j] = {sums[0], sums[1]};
}

__global__ void __launch_bounds__(kSumThreads) SumMeterKernel(const std::int32_t* size, const ReuseMeter* squares, ReuseMeter* meter) {
  double sums[2] = {};
  for (int j = static_cast<int>(threadIdx.x); j < *size; j += kSumThreads) {
    sums[0] += squares[j].squares;
    sums[1] += squares[j].error_squares;
  }
  SumBlock(sums);
  if (threadIdx.x == 0) *meter = {sums[0], sums[1]};
}

template <typename S>
void Launch(Stream& stream, const ClusterMeansArgs& args) {
  const ConstMatrix& x = args.x;
  const Means<S> means{.map = args.map,
                       .x = static_cast<const S*>(x.data),
                       .to = static_cast<S*>(args.to.data),
                       .ld = x.ld,
                       .to_ld = args.to.ld,
                       .cols = x.cols,
                       .squares = args.meter == nullptr ? nullptr : static_cast<ReuseMeter*>(args.workspace)};
  const StreamTarget target = TargetOf(stream);
  constexpr int kVector = kWidest<S>;
  const bool wide = x.cols % kVector == 0 && MapAllows(kVector, {Rows(means.x, means.ld), Rows(means.to, means.to_ld)});
  cudaError_t error = cudaSuccess;
  if (x.rows > 0) {
    const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(x.rows)), dim3(kSumThreads));
    error = wide ? cudaLaunchKernelEx(&config, ClusterMeansKernel<S, kVector>, means)
                 : cudaLaunchKernelEx(&config, ClusterMeansKernel<S, 1>, means);
  }
  if (error == cudaSuccess && args.meter != nullptr) {
    const cudaLaunchConfig_t config = LaunchConfig(target, dim3(1), dim3(kSumThreads));
    error = cudaLaunchKernelEx(&config, SumMeterKernel, args.map.size, static_cast<const ReuseMeter*>(args.workspace), args.meter);
  }
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "ClusterMeans", __FILE__, __LINE__, args.map.ToString()));
}

}  // namespace

void ClusterMeans(Stream& stream, const ClusterMeansArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "ClusterMeans")) return;
  const ConstMatrix& x = args.x;
  LYCIA_CHECK(x.rows == args.map.extent && x.ld >= x.cols)
      << "[" << x.rows << ", " << x.cols << "] are not the rows of " << args.map.ToString() << " ";
  LYCIA_CHECK(args.to.dtype == x.dtype && args.to.cols == x.cols && args.to.ld >= x.cols)
      << "means of " << Name(x.dtype) << " [" << x.rows << ", " << x.cols << "] as " << Name(args.to.dtype) << " of " << args.to.cols
      << " columns ";
  LYCIA_CHECK(args.meter == nullptr || args.workspace != nullptr) << "a meter needs a workspace ";
  if (!stream.ok()) return;
  DispatchStored(x.dtype, [&]<typename S>() { Launch<S>(stream, args); });
}

}  // namespace lycia::cuda
