// What reuse did, counted on the device: single blocks over a few numbers (CompareGradients: the gradient of 32 columns), and the column
// sums of as many rows as the map says (columns.cuh; rows beyond them are not read). Bound by their launches. Not yet run on a GPU.
#include <cuda_runtime.h>

#include "kernels/cuda/columns.cuh"
#include "kernels/reuse/block_sum.cuh"
#include "kernels/reuse/measures.h"

namespace lycia::cuda {
namespace {

__global__ void CountReuseKernel(const std::int32_t* size, double rows, const ReuseMeter* meter, ReuseMeasures* measures) {
  measures->rows += rows;
  measures->clusters += *size;
  if (meter == nullptr) return;
  measures->squares += meter->squares;
  measures->error_squares += meter->error_squares;
}

template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    CompareGradientsKernel(const T* dense, const T* reused, std::int64_t count, ReuseMeasures* measures) {
  double sums[3] = {};
  for (std::int64_t i = threadIdx.x; i < count; i += kSumThreads) {
    const double a = static_cast<double>(dense[i]), b = static_cast<double>(reused[i]);
    sums[0] += a * b;
    sums[1] += a * a;
    sums[2] += b * b;
  }
  SumBlock(sums);
  if (threadIdx.x != 0) return;
  measures->dot += sums[0];
  measures->dense_squares += sums[1];
  measures->reused_squares += sums[2];
}

template <typename S>
struct MappedBiasSum {
  using Number = Arithmetic<S>;
  static constexpr int kNumbers = 1, kVector = kWidest<S>;
  const std::int32_t* size;
  const S* dout;
  std::int64_t ld;
  Number* dbias;
  template <int V>
  __device__ void Add(Number (&s)[kNumbers][V], std::int64_t, std::int64_t row, std::int64_t col) const {
    if (row >= *size) return;
    const Values<Number, V> d = Load<V>(dout + row * ld + col);
#pragma unroll
    for (int k = 0; k < V; ++k) s[0][k] += d[k];
  }
  static __device__ void Merge(Number (&s)[kNumbers], std::int64_t, const Number (&other)[kNumbers], std::int64_t) { MergeSums(s, other); }
  __device__ void Finish(std::int64_t, std::int64_t col, const Number (&s)[kNumbers]) const { dbias[col] += s[0]; }
};

}  // namespace

void CountReuse(Stream& stream, const CountReuseArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "CountReuse") || args.measures == nullptr) return;
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok()) return;
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(1), dim3(1));
  const cudaError_t error =
      cudaLaunchKernelEx(&config, CountReuseKernel, args.map.size, static_cast<double>(args.map.extent), args.meter, args.measures);
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "CountReuse", __FILE__, __LINE__, args.map.ToString()));
}

void CompareGradients(Stream& stream, const CompareGradientsArgs& args) {
  const std::int64_t count = args.dense.elements();
  LYCIA_CHECK(count == args.reused.elements() && args.dense.dtype == args.reused.dtype) << "gradients of two sizes or types ";
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok()) return;
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(1), dim3(kSumThreads));
  DispatchFloat(args.dense.dtype, [&]<typename T>() {
    const cudaError_t error =
        cudaLaunchKernelEx(&config, CompareGradientsKernel<T>, args.dense.as<T>(), args.reused.as<T>(), count, args.measures);
    if (error != cudaSuccess) stream.Fail(ToStatus(error, "CompareGradients", __FILE__, __LINE__, absl::StrCat(count, " elements")));
  });
}

void MappedBiasGradient(Stream& stream, const MappedBiasGradientArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "MappedBiasGradient")) return;
  const ConstMatrix& dout = args.dout;
  LYCIA_CHECK(args.dbias.elements() == dout.cols && args.dbias.dtype == ArithmeticDType(dout.dtype))
      << dout.cols << " columns of " << Name(dout.dtype) << " into " << args.dbias.spec().ToString() << " ";
  DispatchAnyStored(dout.dtype, [&]<typename S>() {
    const MappedBiasSum<S> sum{args.map.size, static_cast<const S*>(dout.data), dout.ld, args.dbias.as<Arithmetic<S>>()};
    LaunchColumns(stream, "MappedBiasGradient", 1, dout.rows, dout.cols, {MapOperand{dout.data, SizeOf(dout.dtype), dout.ld}}, sum);
  });
}

}  // namespace lycia::cuda
