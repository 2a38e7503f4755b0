// Means of clusters on CUDA, of rows (gather.h) and of patches (patch_means.h), and what they lose: a block has a cluster, a thread up to
// 16 bytes of columns at a time, so that members are added in their order; blocks beyond the clusters leave. With d = x - x0, x0 the first
// member,
//   c = x0 + sum d / n  and  sum |x - c|^2 = sum |d|^2 - |sum d|^2 / n.
// The meter's squares are summed in f64, block by block, then by one block. Bytes moved: all rows read (of patches each pixel up to R S
// times, mostly from L2), U written. Bound by memory bandwidth where clusters are many, of patches by L2 and by where pixels lie, some
// sixty instructions for 16 bytes; a cluster of thousands of rows keeps one block busy. Share of the bandwidth: not yet run.
#include <cuda_runtime.h>

#include "kernels/conv/conv_plain.h"
#include "kernels/conv/conv_plain_tile.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/reuse/block_sum.cuh"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/patch_check.h"
#include "kernels/reuse/patch_means.h"

namespace lycia::cuda {
namespace {

// Where a thread reads its columns of any member.
template <typename S>
struct MatrixRows {
  using Element = S;
  const S* x;
  std::int64_t ld;
  struct Column {
    const S* from;
  };
  __device__ __forceinline__ Column At(int col) const { return {x + col}; }
  template <int V>
  __device__ __forceinline__ Values<Arithmetic<S>, V> Get(const Column& column, int row) const {
    return Load<V>(column.from + row * ld);
  }
};

// V divides the channels.
template <typename S>
struct PatchRows {
  using Element = S;
  PlainPatches<S> patches;
  struct Column {
    int r, s, c;
  };
  __device__ __forceinline__ Column At(int col) const {
    const int tap = col / patches.channels, r = tap / patches.taps_w;
    return {r, tap - r * patches.taps_w, col - tap * patches.channels};
  }
  template <int V>
  __device__ __forceinline__ Values<Arithmetic<S>, V> Get(const Column& column, int patch) const {
    const S* from = patches.Pixel(patches.At(patch), column.r, column.s);
    if (from == nullptr) return {};
    return Load<V>(from + column.c);
  }
};

template <typename Source>
struct Means {
  using S = typename Source::Element;
  IndexMap map;
  Source source;
  S* to;
  std::int64_t to_ld;
  int cols;
  ReuseMeter* squares;  // [U], of clusters; null: no meter
};

template <typename Source, int V>
__global__ void __launch_bounds__(kSumThreads) ClusterMeansKernel(Means<Source> p) {
  using A = Arithmetic<typename Source::Element>;
  const std::int64_t j = blockIdx.x;
  if (j >= *p.map.size) return;
  const std::int32_t* members = p.map.members + p.map.offsets[j];
  const int count = p.map.counts[j];
  const A n = static_cast<A>(count);
  double sums[2] = {};
  for (int col = static_cast<int>(threadIdx.x) * V; col < p.cols; col += kSumThreads * V) {
    const typename Source::Column column = p.source.At(col);
    const Values<A, V> first = p.source.template Get<V>(column, members[0]);
    Values<A, V> sum{};
    double of_x = 0, of_d = 0, of_sum = 0;
    if (p.squares != nullptr) {
#pragma unroll
      for (int k = 0; k < V; ++k) of_x += static_cast<double>(first[k]) * static_cast<double>(first[k]);
    }
    for (int i = 1; i < count; ++i) {
      const Values<A, V> x = p.source.template Get<V>(column, members[i]);
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

struct Target {
  IndexMap map;
  Matrix to;
  ReuseMeter* meter;
  void* workspace;
};

template <typename Source>
void Launch(Stream& stream, const char* kernel, const Source& source, bool wide, const Target& t) {
  using S = typename Source::Element;
  constexpr int kVector = kWidest<S>;
  const Means<Source> means{.map = t.map,
                            .source = source,
                            .to = static_cast<S*>(t.to.data),
                            .to_ld = t.to.ld,
                            .cols = static_cast<int>(t.to.cols),
                            .squares = t.meter == nullptr ? nullptr : static_cast<ReuseMeter*>(t.workspace)};
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok()) return;
  cudaError_t error = cudaSuccess;
  if (t.map.extent > 0) {
    const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(t.map.extent)), dim3(kSumThreads));
    error = wide && MapAllows(kVector, {Rows(means.to, means.to_ld)})
                ? cudaLaunchKernelEx(&config, ClusterMeansKernel<Source, kVector>, means)
                : cudaLaunchKernelEx(&config, ClusterMeansKernel<Source, 1>, means);
  }
  if (error == cudaSuccess && t.meter != nullptr) {
    const cudaLaunchConfig_t config = LaunchConfig(target, dim3(1), dim3(kSumThreads));
    error = cudaLaunchKernelEx(&config, SumMeterKernel, t.map.size, static_cast<const ReuseMeter*>(t.workspace), t.meter);
  }
  if (error != cudaSuccess) stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, t.map.ToString()));
}

void CheckMeans(const Target& t, DType dtype, std::int64_t depth) {
  LYCIA_CHECK(t.to.dtype == dtype && t.to.cols == depth && t.to.ld >= depth && depth <= INT32_MAX / 4)
      << "means of rows of " << depth << " " << Name(dtype) << " as " << Name(t.to.dtype) << " of " << t.to.cols << " columns ";
  LYCIA_CHECK(t.meter == nullptr || t.workspace != nullptr) << "a meter needs a workspace ";
}

}  // namespace

void ClusterMeans(Stream& stream, const ClusterMeansArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "ClusterMeans")) return;
  const ConstMatrix& x = args.x;
  LYCIA_CHECK(x.rows == args.map.extent && x.ld >= x.cols)
      << "[" << x.rows << ", " << x.cols << "] are not the rows of " << args.map.ToString() << " ";
  const Target target{args.map, args.to, args.meter, args.workspace};
  CheckMeans(target, x.dtype, x.cols);
  DispatchAnyStored(x.dtype, [&]<typename S>() {
    const MatrixRows<S> rows{static_cast<const S*>(x.data), x.ld};
    Launch(stream, "ClusterMeans", rows, x.cols % kWidest<S> == 0 && MapAllows(kWidest<S>, {Rows(rows.x, rows.ld)}), target);
  });
}

void ClusterPatchMeans(Stream& stream, const ClusterPatchMeansArgs& args) {
  const ConvShape& s = args.shape;
  if (!ArePatches(stream, "ClusterPatchMeans", args.map, s, args.in)) return;
  const char* reason = RejectConvPlain(s);
  if (reason != nullptr) return stream.Fail(InvalidArgument("ClusterPatchMeans of ", s.ToString(), " on CUDA: ", reason));
  const Target target{args.map, args.to, args.meter, args.workspace};
  CheckMeans(target, args.in.dtype, s.R() * s.S() * s.C);
  DispatchAnyStored(args.in.dtype, [&]<typename S>() {
    const PatchRows<S> rows{PlainPatchesOf<S>(s, args.in.data)};
    Launch(stream, "ClusterPatchMeans", rows, s.C % kWidest<S> == 0 && MapAllows(kWidest<S>, {Rows(rows.patches.data, s.C)}), target);
  });
}

}  // namespace lycia::cuda
