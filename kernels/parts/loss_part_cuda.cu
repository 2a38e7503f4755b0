// Cross-entropy of a part of the vocabulary on CUDA, a row of logits a block of up to 512 threads, as in the whole one
// (kernels/loss/cross_entropy_cuda.cu). Bytes moved: RowLargest and RowExpSums rows * Vp elements each, CrossEntropyPart two. Bound by
// memory bandwidth; share of it: not yet run.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/map_launch.h"
#include "kernels/loss/loss_row_cuda.cuh"
#include "kernels/parts/loss_part.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr int kMaxWarps = kMaxLossThreads / 32;

template <typename T, int V>
__global__ void __launch_bounds__(kMaxLossThreads)
    RowLargestKernel(const T* logits, std::int64_t cols, std::int64_t valid, Arithmetic<T>* to) {
  using A = Arithmetic<T>;
  __shared__ A of_warp[kMaxWarps];
  const std::int64_t row = blockIdx.x, first = row * cols;
  A largest = -INFINITY;
  ForRow<V>(first, valid, [&]<int W>(std::int64_t i) {
    const Values<A, W> x = Load<W>(logits + first + i);
#pragma unroll
    for (int k = 0; k < W; ++k) largest = x[k] > largest ? x[k] : largest;
  });
  for (int distance = 16; distance > 0; distance /= 2) {
    const A other = __shfl_xor_sync(0xffffffffu, largest, distance);
    largest = other > largest ? other : largest;
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = largest;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned w = 1; w < blockDim.x / 32; ++w) largest = of_warp[w] > largest ? of_warp[w] : largest;
  to[row] = largest;
}

template <typename T>
struct ExpSumPointers {
  const T* logits;               // [rows, cols]
  const std::int32_t* labels;    // [rows]
  const Arithmetic<T>* largest;  // [rows], over the whole vocabulary
  Arithmetic<T>* sums;           // [2, rows]
  FaultWord* fault;
};
template <typename T, int V>
__global__ void __launch_bounds__(kMaxLossThreads)
    RowExpSumsKernel(ExpSumPointers<T> p, std::int64_t rows, std::int64_t cols, VocabularyPart part) {
  using A = Arithmetic<T>;
  __shared__ A of_warp[kMaxWarps];
  const std::int64_t row = blockIdx.x, first = row * cols;
  const A largest = p.largest[row];
  A sum = 0;
  ForRow<V>(first, part.valid, [&]<int W>(std::int64_t i) {
    const Values<A, W> x = Load<W>(p.logits + first + i);
#pragma unroll
    for (int k = 0; k < W; ++k) sum += Exp(x[k] - largest);
  });
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned w = 1; w < blockDim.x / 32; ++w) sum += of_warp[w];
  p.sums[row] = sum;
  const std::int32_t label = p.labels[row];
  if (label < -1 || label >= part.vocabulary) *p.fault = {1, label, static_cast<int>(row), static_cast<int>(part.vocabulary)};
  const std::int64_t here = label - part.first;
  p.sums[rows + row] = label >= 0 && here >= 0 && here < part.valid ? Widen(p.logits[first + here]) : A(0);
}

template <typename T>
struct LossPartPointers {
  const T* logits;                     // [rows, cols]
  const std::int32_t* labels;          // [rows]
  const Arithmetic<T>*largest, *sums;  // [rows], [2, rows], over the whole vocabulary
  T* dlogits;                          // [rows, cols]
};
template <typename T, int V>
__global__ void __launch_bounds__(kMaxLossThreads, 2)
    LossPartGradientKernel(LossPartPointers<T> p, std::int64_t cols, VocabularyPart part, double scale) {
  using A = Arithmetic<T>;
  const std::int64_t row = blockIdx.x, first = row * cols;
  const std::int32_t label = p.labels[row];
  const std::int64_t zeros_from = label < 0 ? 0 : part.valid;  // the padding, or a row that is no loss token
  if (label >= 0) {
    WriteLossGradient<V>(p.logits + first, first, part.valid, p.largest[row], static_cast<A>(scale / static_cast<double>(p.sums[row])),
                         static_cast<A>(scale), label - part.first, p.dlogits + first);
  }
  for (std::int64_t i = zeros_from + threadIdx.x; i < cols; i += blockDim.x) p.dlogits[first + i] = Round<T>(A(0));
}

// sample_losses[s] = the losses of its rows, in order, and sample_hits[s] = the labels with the largest logit, either absent when null; rows of sample s: first_row + r in [s * length, (s + 1) * length).
template <typename A>
__global__ void __launch_bounds__(32)
    SamplePartLossesKernel(const std::int32_t* labels, const A* largest, const A* sums, std::int64_t rows, std::int64_t first_row,
                           std::int64_t length, bool reports, double* sample_losses, double* sample_hits) {
  const std::int64_t sample = blockIdx.x, from = sample * length - first_row;
  double total = 0, hits = 0;
  for (std::int64_t begin = from; reports && begin < from + length; begin += 32) {
    const std::int64_t r = begin + threadIdx.x;
    double mine = 0, hit = 0;
    if (r >= 0 && r < rows && r < from + length && labels[r] >= 0) {
      mine = log(static_cast<double>(sums[r])) + static_cast<double>(largest[r]) - static_cast<double>(sums[rows + r]);
      hit = sums[rows + r] >= largest[r] ? 1 : 0;
    }
    for (int lane = 0; lane < 32; ++lane) {
      total += __shfl_sync(0xffffffffu, mine, lane);
      hits += __shfl_sync(0xffffffffu, hit, lane);
    }
  }
  if (threadIdx.x == 0 && sample_losses != nullptr) sample_losses[sample] = total;
  if (threadIdx.x == 0 && sample_hits != nullptr) sample_hits[sample] = hits;
}

template <typename T, typename Wide, typename Narrow>
void LaunchLossRows(Stream& stream, const StreamTarget& target, const char* kernel, std::int64_t rows, std::int64_t cols, bool wide,
                    const Wide& launch_wide, const Narrow& launch_narrow) {
  if (!stream.ok() || rows == 0) return;
  const cudaLaunchConfig_t config =
      LaunchConfig(target, dim3(static_cast<unsigned>(rows)), dim3(static_cast<unsigned>(LossThreads(cols, wide ? kWidest<T> : 1))));
  const cudaError_t error = wide ? launch_wide(config) : launch_narrow(config);
  if (error != cudaSuccess) stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, absl::StrCat(rows, " rows of ", cols, " logits")));
}

}  // namespace

void RowLargest(Stream& stream, const RowLargestArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.logits);
  LYCIA_CHECK_EQ(args.largest.elements(), matrix.rows);
  const StreamTarget target = TargetOf(stream);
  DispatchAnyStored(args.logits.dtype, [&]<typename T>() {
    const T* logits = args.logits.as<T>();
    auto* largest = args.largest.as<Arithmetic<T>>();
    const std::int64_t valid = args.part.valid;
    LaunchLossRows<T>(
        stream, target, "RowLargest", matrix.rows, matrix.cols, MapAllows(kWidest<T>, {{logits, sizeof(T)}}),
        [&](const cudaLaunchConfig_t& config) {
          return cudaLaunchKernelEx(&config, RowLargestKernel<T, kWidest<T>>, logits, matrix.cols, valid, largest);
        },
        [&](const cudaLaunchConfig_t& config) {
          return cudaLaunchKernelEx(&config, RowLargestKernel<T, 1>, logits, matrix.cols, valid, largest);
        });
  });
}

void RowExpSums(Stream& stream, const RowExpSumsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.logits);
  LYCIA_CHECK(args.labels.elements() == matrix.rows && args.sums.elements() == 2 * matrix.rows) << matrix.rows << " rows ";
  const StreamTarget target = TargetOf(stream);
  DispatchAnyStored(args.logits.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const ExpSumPointers<T> p{args.logits.as<T>(), args.labels.as<std::int32_t>(), args.largest.as<A>(), args.sums.as<A>(),
                              target.faults + static_cast<int>(Fault::kLabel)};
    LaunchLossRows<T>(
        stream, target, "RowExpSums", matrix.rows, matrix.cols, MapAllows(kWidest<T>, {{p.logits, sizeof(T)}}),
        [&](const cudaLaunchConfig_t& config) {
          return cudaLaunchKernelEx(&config, RowExpSumsKernel<T, kWidest<T>>, p, matrix.rows, matrix.cols, args.part);
        },
        [&](const cudaLaunchConfig_t& config) {
          return cudaLaunchKernelEx(&config, RowExpSumsKernel<T, 1>, p, matrix.rows, matrix.cols, args.part);
        });
  });
}

void CrossEntropyPart(Stream& stream, const CrossEntropyPartArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.logits);
  const StreamTarget target = TargetOf(stream);
  DispatchAnyStored(args.logits.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const LossPartPointers<T> p{args.logits.as<T>(), args.labels.as<std::int32_t>(), args.largest.as<A>(), args.sums.as<A>(),
                                args.dlogits.data == nullptr ? nullptr : args.dlogits.as<T>()};
    if ((args.sample_losses != nullptr || args.sample_hits != nullptr) && args.samples > 0 && stream.ok()) {
      const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(args.samples)), dim3(32));
      stream.Fail(LYCIA_CUDA_STATUS(cudaLaunchKernelEx(&config, SamplePartLossesKernel<A>, p.labels, p.largest, p.sums, matrix.rows,
                                                       args.first_row, args.length, args.reports, args.sample_losses, args.sample_hits),
                                    args.samples, " samples of ", args.length));
    }
    if (p.dlogits == nullptr) return;
    LaunchLossRows<T>(
        stream, target, "CrossEntropyPart", matrix.rows, matrix.cols,
        MapAllows(kWidest<T>, {{p.logits, sizeof(T)}, {p.dlogits, sizeof(T)}}),
        [&](const cudaLaunchConfig_t& config) {
          return cudaLaunchKernelEx(&config, LossPartGradientKernel<T, kWidest<T>>, p, matrix.cols, args.part, args.scale);
        },
        [&](const cudaLaunchConfig_t& config) {
          return cudaLaunchKernelEx(&config, LossPartGradientKernel<T, 1>, p, matrix.cols, args.part, args.scale);
        });
  });
}

}  // namespace lycia::cuda
