// Layer and RMS norm of a part of every row's features on CUDA. What is reduced over a row is by a block of up to 512 threads, in a fixed
// order; the rest is one pack of up to 16 bytes a thread (kernels/cuda/map.cuh). Bytes moved, in elements: RowMoments rows * C (the second
// time from the caches), NormalisePart 2, NormGradientSums 2, NormPartBackwardInput 3, 4 accumulating. Bound by memory bandwidth; share of
// it: not yet run.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/map.cuh"
#include "kernels/loss/loss_row_cuda.cuh"
#include "kernels/parts/norm_part.h"

namespace lycia::cuda {
namespace {

// body.operator()<T, kRms>() for the type of stored elements and the kind of norm.
template <typename Body>
void DispatchNorm(DType dtype, bool rms, const Body& body) {
  DispatchAnyStored(dtype, [&]<typename T>() { rms ? body.template operator()<T, true>() : body.template operator()<T, false>(); });
}

// The sum over the threads of a block, the same bits in each: pairs of lanes, then the warps in order.
template <typename A>
__device__ A BlockSum(A value, A* of_warp) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  __syncthreads();  // the sum before this one has been read
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  A sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += of_warp[w];
  return sum;
}

template <typename T, int V, bool kRms>
__global__ void __launch_bounds__(kMaxLossThreads) RowMomentsKernel(const T* in, std::int64_t cols, Arithmetic<T>* moments) {
  using A = Arithmetic<T>;
  __shared__ A of_warp[kMaxLossThreads / 32];
  const std::int64_t row = blockIdx.x, first = row * cols;
  A mean = 0, squares = 0;
  if constexpr (!kRms) {
    A sum = 0;
    ForRow<V>(first, cols, [&]<int W>(std::int64_t i) {
      const Values<A, W> x = Load<W>(in + first + i);
#pragma unroll
      for (int k = 0; k < W; ++k) sum += x[k];
    });
    mean = BlockSum(sum, of_warp) / static_cast<A>(cols);
  }
  ForRow<V>(first, cols, [&]<int W>(std::int64_t i) {
    const Values<A, W> x = Load<W>(in + first + i);
#pragma unroll
    for (int k = 0; k < W; ++k) squares += (x[k] - mean) * (x[k] - mean);
  });
  squares = BlockSum(squares, of_warp);
  if (threadIdx.x != 0) return;
  constexpr std::int64_t kNumbers = NumbersOfRow(kRms);
  if constexpr (!kRms) moments[kNumbers * row] = mean;
  moments[kNumbers * row + kNumbers - 1] = squares;
}

template <typename T>
struct GradientSumPointers {
  const T *dout, *in, *gamma;
  const Arithmetic<T>*mean, *rstd;
  Arithmetic<T>* sums;  // [rows, 2]; RMS norm [rows, 1]
};
// V only where gamma's columns are aligned as the rows' are, so that every row begins a pack.
template <typename T, int V, bool kRms>
__global__ void __launch_bounds__(kMaxLossThreads) NormGradientSumsKernel(GradientSumPointers<T> p, std::int64_t cols) {
  using A = Arithmetic<T>;
  __shared__ A of_warp[kMaxLossThreads / 32];
  const std::int64_t row = blockIdx.x, first = row * cols;
  const A mean = kRms ? A(0) : p.mean[row], rstd = p.rstd[row];
  A sum_g = 0, sum_gh = 0;
  ForRow<V>(first, cols, [&]<int W>(std::int64_t i) {
    const Values<A, W> d = Load<W>(p.dout + first + i), x = Load<W>(p.in + first + i), gamma = Load<W>(p.gamma + i);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const A g = d[k] * gamma[k];
      if constexpr (!kRms) sum_g += g;
      sum_gh += g * ((x[k] - mean) * rstd);
    }
  });
  if constexpr (!kRms) sum_g = BlockSum(sum_g, of_warp);
  sum_gh = BlockSum(sum_gh, of_warp);
  if (threadIdx.x != 0) return;
  constexpr std::int64_t kNumbers = NumbersOfRow(kRms);
  if constexpr (!kRms) p.sums[kNumbers * row] = sum_g;
  p.sums[kNumbers * row + kNumbers - 1] = sum_gh;
}

template <typename A, bool kRms>
struct MergeMomentsMap {
  static constexpr int kVector = 1;
  const A* moments;  // [Q, R, 2]; RMS norm [Q, R, 1]
  A *mean, *rstd;    // [R]
  std::int64_t Q, R;
  A width, eps;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t r) const {
    A m = 0, squares = 0;
    if constexpr (kRms) {
      for (std::int64_t q = 0; q < Q; ++q) squares += moments[q * R + r];
    } else {
      for (std::int64_t q = 0; q < Q; ++q) m += moments[2 * (q * R + r)];
      m /= static_cast<A>(Q);
      for (std::int64_t q = 0; q < Q; ++q) {
        const A apart = moments[2 * (q * R + r)] - m;
        squares += moments[2 * (q * R + r) + 1] + width * apart * apart;
      }
      mean[r] = m;
    }
    rstd[r] = A(1) / sqrt(squares / (width * static_cast<A>(Q)) + eps);
  }
};

template <typename T, bool kRms>
struct NormaliseMap {
  static constexpr int kVector = kWidest<T>;
  const T *in, *gamma, *beta;
  const Arithmetic<T>*mean, *rstd;
  T* out;
  std::int64_t cols;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    using A = Arithmetic<T>;
    Values<A, V> x = Load<V>(in + row * cols + col);
    const Values<A, V> g = Load<V>(gamma + col);
    const A s = rstd[row];
    if constexpr (kRms) {
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] = x[k] * s * g[k];
    } else {
      const Values<A, V> b = Load<V>(beta + col);
      const A m = mean[row];
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] = (x[k] - m) * s * g[k] + b[k];
    }
    Store<V>(out + row * cols + col, x);
  }
};

template <typename T, bool kRms>
struct PartBackwardMap {
  static constexpr int kVector = kWidest<T>;
  using A = Arithmetic<T>;
  const T *dout, *in, *gamma;
  const A *mean, *rstd, *sums;  // sums [Q, rows, 2]; RMS norm [Q, rows, 1]
  T* din;
  std::int64_t Q, rows, cols;
  bool accumulate;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    constexpr std::int64_t kNumbers = NumbersOfRow(kRms);
    const A m = kRms ? A(0) : mean[row], s = rstd[row], features = static_cast<A>(Q * cols);
    A mean_g = 0, mean_gh = 0;
    for (std::int64_t q = 0; q < Q; ++q) {
      const A* of_part = sums + kNumbers * (q * rows + row);
      if constexpr (!kRms) mean_g += of_part[0];
      mean_gh += of_part[kNumbers - 1];
    }
    mean_g /= features;
    mean_gh /= features;
    const Values<A, V> d = Load<V>(dout + row * cols + col), gamma_ = Load<V>(gamma + col);
    Values<A, V> x = Load<V>(in + row * cols + col);
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] = s * (d[k] * gamma_[k] - mean_g - (x[k] - m) * s * mean_gh);
    if (accumulate) {
      const Values<A, V> before = Load<V>(din + row * cols + col);
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] += before[k];
    }
    Store<V>(din + row * cols + col, x);
  }
};

cudaLaunchConfig_t RowBlocks(const StreamTarget& target, std::int64_t rows, std::int64_t cols, int vector) {
  return LaunchConfig(target, dim3(static_cast<unsigned>(rows)), dim3(static_cast<unsigned>(LossThreads(cols, vector))));
}

}  // namespace

void RowMoments(Stream& stream, const RowMomentsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const bool rms = args.moments.shape.dim(-1) == NumbersOfRow(true);
  LYCIA_CHECK_EQ(args.moments.elements(), NumbersOfRow(rms) * matrix.rows);
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || matrix.rows == 0) return;
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    const T* in = args.in.as<T>();
    auto* moments = args.moments.as<Arithmetic<T>>();
    const bool wide = MapAllows(kWidest<T>, {{in, sizeof(T)}});
    const cudaLaunchConfig_t config = RowBlocks(target, matrix.rows, matrix.cols, wide ? kWidest<T> : 1);
    const cudaError_t error = wide ? cudaLaunchKernelEx(&config, RowMomentsKernel<T, kWidest<T>, kRms>, in, matrix.cols, moments)
                                   : cudaLaunchKernelEx(&config, RowMomentsKernel<T, 1, kRms>, in, matrix.cols, moments);
    stream.Fail(LYCIA_CUDA_STATUS(error, "RowMoments of [", matrix.rows, ", ", matrix.cols, "]"));
  });
}

void MergeRowMoments(Stream& stream, const MergeRowMomentsArgs& args) {
  const std::int64_t Q = args.moments.shape[0], R = args.moments.shape[1];
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.moments.shape[2] == NumbersOfRow(rms) && args.rstd.elements() == R) << args.moments.shape.ToString() << " ";
  DispatchFloat(args.rstd.dtype, [&]<typename A>() {
    const A *moments = args.moments.as<A>(), width = static_cast<A>(args.width), eps = static_cast<A>(args.eps);
    A* const rstd = args.rstd.as<A>();
    if (rms) return LaunchMap(stream, "MergeRowMoments", 1, R, {}, MergeMomentsMap<A, true>{moments, nullptr, rstd, Q, R, width, eps});
    LaunchMap(stream, "MergeRowMoments", 1, R, {}, MergeMomentsMap<A, false>{moments, args.mean.as<A>(), rstd, Q, R, width, eps});
  });
}

void NormalisePart(Stream& stream, const NormalisePartArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const std::int64_t C = matrix.cols;
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.gamma.elements() == C && (args.beta.data == nullptr) == rms && args.rstd.elements() == matrix.rows)
      << args.in.shape.ToString() << " ";
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    using A = Arithmetic<T>;
    const T* const beta = kRms ? nullptr : args.beta.as<T>();
    const A* const mean = kRms ? nullptr : args.mean.as<A>();
    const NormaliseMap<T, kRms> f{args.in.as<T>(), args.gamma.as<T>(), beta, mean, args.rstd.as<A>(), args.out.as<T>(), C};
    LaunchMap(stream, "NormalisePart", matrix.rows, C, {Rows(f.in, C), Rows(f.gamma, C), Rows(kRms ? f.gamma : f.beta, C), Rows(f.out, C)},
              f);
  });
}

void NormGradientSums(Stream& stream, const NormGradientSumsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.dout.elements() == args.in.elements() && args.sums.elements() == NumbersOfRow(rms) * matrix.rows)
      << args.in.shape.ToString() << " ";
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || matrix.rows == 0) return;
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    using A = Arithmetic<T>;
    const A* const mean = kRms ? nullptr : args.mean.as<A>();
    const GradientSumPointers<T> p{args.dout.as<T>(), args.in.as<T>(), args.gamma.as<T>(), mean, args.rstd.as<A>(), args.sums.as<A>()};
    const bool wide =
        MapAllows(kWidest<T>, {{p.dout, sizeof(T), matrix.cols}, {p.in, sizeof(T), matrix.cols}, {p.gamma, sizeof(T), matrix.cols}});
    const cudaLaunchConfig_t config = RowBlocks(target, matrix.rows, matrix.cols, wide ? kWidest<T> : 1);
    const cudaError_t error = wide ? cudaLaunchKernelEx(&config, NormGradientSumsKernel<T, kWidest<T>, kRms>, p, matrix.cols)
                                   : cudaLaunchKernelEx(&config, NormGradientSumsKernel<T, 1, kRms>, p, matrix.cols);
    stream.Fail(LYCIA_CUDA_STATUS(error, "NormGradientSums of [", matrix.rows, ", ", matrix.cols, "]"));
  });
}

void NormPartBackwardInput(Stream& stream, const NormPartBackwardInputArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const std::int64_t Q = args.sums.shape[0], C = matrix.cols;
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.sums.elements() == NumbersOfRow(rms) * Q * matrix.rows && args.din.elements() == args.in.elements())
      << args.in.shape.ToString() << " ";
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    using A = Arithmetic<T>;
    const PartBackwardMap<T, kRms> f{.dout = args.dout.as<T>(),
                                     .in = args.in.as<T>(),
                                     .gamma = args.gamma.as<T>(),
                                     .mean = kRms ? nullptr : args.mean.as<A>(),
                                     .rstd = args.rstd.as<A>(),
                                     .sums = args.sums.as<A>(),
                                     .din = args.din.as<T>(),
                                     .Q = Q,
                                     .rows = matrix.rows,
                                     .cols = C,
                                     .accumulate = args.accumulate};
    LaunchMap(stream, "NormPartBackwardInput", matrix.rows, C, {Rows(f.dout, C), Rows(f.in, C), Rows(f.gamma, C), Rows(f.din, C)}, f);
  });
}

}  // namespace lycia::cuda
