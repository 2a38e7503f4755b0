// Layer norm on CUDA: y = (x - mean) * rstd * gamma + beta over the columns of each row, and the gradient of x. Bound by memory bandwidth;
// share of it: not yet run (tests/gpu measures it).
//
// A row is tiled over the 32 to 1,024 threads of a block's x dimension and stays in their registers (kLoadsPerThread
// loads of 16 bytes), so that x is read once although mean, variance and output need it three times; the sums go through warp shuffles and,
// for more than one warp, shared memory. Bytes moved: forward 2 * rows * cols elements (x, y) and 2 * rows (mean, rstd); input gradient 3 *
// rows * cols (x, dout, din). gamma and beta stay in the caches. Sums are in T (f32 or f64), at most 16 + 5 + 32 additions deep.
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/norm/layer_norm.h"
#include "kernels/norm/layer_norm_cuda_launch.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;

template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};
template <typename T, int V>
__device__ Pack<T, V> Load(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}
template <typename T, int V>
__device__ void Store(T* to, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// The sum over the threads of a row, the same bits in each: pairs of lanes, then the warps in order. partial: one T a warp, shared.
template <typename T>
__device__ T RowSum(T value, T* partial) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  if (blockDim.x == kWarp) return value;
  __syncthreads();  // the sum before this one has been read
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  T sum = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) sum += partial[w];
  return sum;
}

// Grid: rows / blockDim.y blocks of (threads_per_row, rows_per_block).
template <typename T>
struct ForwardPointers {
  const T *in, *gamma, *beta;  // [rows, cols], [cols], [cols]
  T *out, *mean, *rstd;        // [rows, cols], [rows], [rows]
};
template <typename T, int V>
__global__ void __launch_bounds__(kMaxThreadsPerRow) ForwardKernel(ForwardPointers<T> p, std::int64_t rows, int cols, T eps) {
  __shared__ T partial[kMaxThreadsPerRow / kWarp];
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (row >= rows) return;  // all 32 threads of a warp; rows of several warps have a block of their own
  const auto column = [](int i) { return static_cast<int>(i * blockDim.x + threadIdx.x) * V; };

  Pack<T, V> x[kLoadsPerThread];
  T sum = 0;
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
    x[i] = Load<T, V>(p.in + row * cols + column(i));
#pragma unroll
    for (int k = 0; k < V; ++k) sum += x[i].at[k];
  }
  const T mean = RowSum(sum, partial) / static_cast<T>(cols);
  T squares = 0;  // of the distance to the mean: no cancellation
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
#pragma unroll
    for (int k = 0; k < V; ++k) squares += (x[i].at[k] - mean) * (x[i].at[k] - mean);
  }
  const T rstd = T{1} / sqrt(RowSum(squares, partial) / static_cast<T>(cols) + eps);
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
    const Pack<T, V> gamma = Load<T, V>(p.gamma + column(i)), beta = Load<T, V>(p.beta + column(i));
#pragma unroll
    for (int k = 0; k < V; ++k) x[i].at[k] = (x[i].at[k] - mean) * rstd * gamma.at[k] + beta.at[k];
    Store(p.out + row * cols + column(i), x[i]);
  }
  if (threadIdx.x == 0) {
    p.mean[row] = mean;
    p.rstd[row] = rstd;
  }
}

// g = dout * gamma, n = (x - mean) * rstd: din = rstd * (g - mean_c(g) - n * mean_c(g * n)). Grid as above.
template <typename T>
struct BackwardInputPointers {
  const T *dout, *in, *gamma, *mean, *rstd;  // [rows, cols], [rows, cols], [cols], [rows], [rows]
  T* din;                                    // [rows, cols], = or +=
};
template <typename T, int V>
__global__ void __launch_bounds__(kMaxThreadsPerRow)
    BackwardInputKernel(BackwardInputPointers<T> p, std::int64_t rows, int cols, bool accumulate) {
  __shared__ T partial[kMaxThreadsPerRow / kWarp];
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const auto column = [](int i) { return static_cast<int>(i * blockDim.x + threadIdx.x) * V; };

  const T mean = p.mean[row], rstd = p.rstd[row];
  Pack<T, V> g[kLoadsPerThread], n[kLoadsPerThread];
  T sum_g = 0, sum_gn = 0;
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
    g[i] = Load<T, V>(p.dout + row * cols + column(i));
    n[i] = Load<T, V>(p.in + row * cols + column(i));
    const Pack<T, V> gamma = Load<T, V>(p.gamma + column(i));
#pragma unroll
    for (int k = 0; k < V; ++k) {
      g[i].at[k] *= gamma.at[k];
      n[i].at[k] = (n[i].at[k] - mean) * rstd;
      sum_g += g[i].at[k];
      sum_gn += g[i].at[k] * n[i].at[k];
    }
  }
  const T mean_g = RowSum(sum_g, partial) / static_cast<T>(cols);
  const T mean_gn = RowSum(sum_gn, partial) / static_cast<T>(cols);
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
#pragma unroll
    for (int k = 0; k < V; ++k) g[i].at[k] = rstd * (g[i].at[k] - mean_g - n[i].at[k] * mean_gn);
    if (accumulate) {
      const Pack<T, V> before = Load<T, V>(p.din + row * cols + column(i));
#pragma unroll
      for (int k = 0; k < V; ++k) g[i].at[k] += before.at[k];
    }
    Store(p.din + row * cols + column(i), g[i]);
  }
}

// The largest power of two, at most kVectorBytes, that divides every address.
template <typename... T>
int AlignmentOf(const T*... pointers) {
  const std::uintptr_t bits = (std::uintptr_t{kVectorBytes} | ... | reinterpret_cast<std::uintptr_t>(pointers));
  return static_cast<int>(bits & (~bits + 1));
}

// launch(config, std::integral_constant<int, V>) launches the kernel with loads of V elements.
template <typename T, typename Launch>
void LaunchRows(Stream& stream, const char* kernel, const ConstMatrix& in, int alignment, const Launch& launch) {
  constexpr int kWidest = kVectorBytes / static_cast<int>(sizeof(T));
  const StreamTarget target = TargetOf(stream);
  const NormProblem problem{in.rows, in.cols, sizeof(T), alignment, target.multiprocessors};
  if (!stream.ok() || problem.rows == 0) return;
  const StatusOr<RowLaunch> choice = ChooseRowLaunch(problem);
  if (!choice.ok()) return stream.Fail(choice.status());
  const cudaLaunchConfig_t config =
      LaunchConfig(target, dim3(static_cast<unsigned>(choice->blocks(problem))),
                   dim3(static_cast<unsigned>(choice->threads_per_row), static_cast<unsigned>(choice->rows_per_block)));
  cudaError_t error = cudaErrorInvalidConfiguration;
  if (choice->vector == kWidest) {
    error = launch(config, std::integral_constant<int, kWidest>());
  } else if (choice->vector == 1) {
    error = launch(config, std::integral_constant<int, 1>());
  } else if constexpr (kWidest == 4) {
    error = launch(config, std::integral_constant<int, 2>());
  }
  if (error != cudaSuccess) {
    stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__,
                         absl::StrCat(problem.rows, " rows of ", problem.cols, " columns of ", sizeof(T), " bytes")));
  }
}

}  // namespace

void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args) {
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const ForwardPointers<T> p{args.in.as<T>(),  args.gamma.as<T>(), args.beta.as<T>(),
                               args.out.as<T>(), args.mean.as<T>(),  args.rstd.as<T>()};
    const ConstMatrix in = AsMatrix(args.in);
    LaunchRows<T>(
        stream, "LayerNormForward", in, AlignmentOf(p.in, p.gamma, p.beta, p.out), [&](const cudaLaunchConfig_t& config, auto vector) {
          return cudaLaunchKernelEx(&config, ForwardKernel<T, vector()>, p, in.rows, static_cast<int>(in.cols), static_cast<T>(args.eps));
        });
  });
}

void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args) {
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const BackwardInputPointers<T> p{args.dout.as<T>(), args.in.as<T>(),   args.gamma.as<T>(),
                                     args.mean.as<T>(), args.rstd.as<T>(), args.din.as<T>()};
    const ConstMatrix in = AsMatrix(args.in);
    LaunchRows<T>(stream, "LayerNormBackwardInput", in, AlignmentOf(p.dout, p.in, p.gamma, p.din),
                  [&](const cudaLaunchConfig_t& config, auto vector) {
                    return cudaLaunchKernelEx(&config, BackwardInputKernel<T, vector()>, p, in.rows, static_cast<int>(in.cols),
                                              args.accumulate);
                  });
  });
}

}  // namespace lycia::cuda
