// The passes over rows that layer norm (centred) and RMS norm share: a row is tiled over the 32 to 1,024 threads of a block's x dimension
// and stays in their registers, as it is stored (kLoadsPerThread loads of 16 bytes), so that it is read once although the statistics need
// it twice and the output once more. Sums go through warp shuffles and, for more than one warp, shared memory.
#ifndef LYCIA_KERNELS_NORM_NORM_ROW_CUDA_CUH_
#define LYCIA_KERNELS_NORM_NORM_ROW_CUDA_CUH_

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/pack.cuh"
#include "kernels/norm/layer_norm_cuda_launch.h"
#include "runtime/core/check.h"
#include "runtime/core/tensor.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kLanesOfWarp = 32;

// The sum over the threads of a row, the same bits in each: pairs of lanes, then the warps in order. partial: one A a warp, shared.
template <typename A>
__device__ A RowSum(A value, A* partial) {
  for (int distance = kLanesOfWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  if (blockDim.x == kLanesOfWarp) return value;
  __syncthreads();  // the sum before this one has been read
  if (threadIdx.x % kLanesOfWarp == 0) partial[threadIdx.x / kLanesOfWarp] = value;
  __syncthreads();
  A sum = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x) / kLanesOfWarp; ++w) sum += partial[w];
  return sum;
}

template <typename T>
struct NormForwardPointers {
  const T *in, *residual, *gamma, *beta;  // [rows, cols]; the same or null; [cols]; [cols], null where not centred
  T *sum, *out;                           // [rows, cols], sum with a residual only
  Arithmetic<T>*mean, *rstd;              // [rows], mean null where not centred
};
// x = in (+ residual, rounded); out = (x - mean) * rstd * gamma + beta, or x * rstd * gamma. Grid: rows / blockDim.y blocks of
// (threads_per_row, rows_per_block).
template <typename T, int V, bool kCentred>
__global__ void __launch_bounds__(MaxThreadsPerRow(V))
    NormForwardKernel(NormForwardPointers<T> p, std::int64_t rows, int cols, Arithmetic<T> eps) {
  using A = Arithmetic<T>;
  __shared__ A partial[MaxThreadsPerRow(V) / kLanesOfWarp];
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (row >= rows) return;  // all 32 threads of a warp; rows of several warps have a block of their own
  const auto column = [](int i) { return static_cast<int>(i * blockDim.x + threadIdx.x) * V; };

  Pack<T, V> x[kLoadsPerThread];
  A sum = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
    x[i] = *reinterpret_cast<const Pack<T, V>*>(p.in + row * cols + column(i));
    if (p.residual != nullptr) {
      const Pack<T, V> r = *reinterpret_cast<const Pack<T, V>*>(p.residual + row * cols + column(i));
#pragma unroll
      for (int k = 0; k < V; ++k) x[i].at[k] = Round<T>(Widen(x[i].at[k]) + Widen(r.at[k]));
      *reinterpret_cast<Pack<T, V>*>(p.sum + row * cols + column(i)) = x[i];
    }
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const A value = Widen(x[i].at[k]);
      if constexpr (kCentred) {
        sum += value;
      } else {
        squares += value * value;
      }
    }
  }
  A mean = 0;
  if constexpr (kCentred) {
    mean = RowSum(sum, partial) / static_cast<A>(cols);
#pragma unroll
    for (int i = 0; i < kLoadsPerThread; ++i) {
      if (column(i) >= cols) continue;
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const A distance = Widen(x[i].at[k]) - mean;  // no cancellation
        squares += distance * distance;
      }
    }
  }
  const A rstd = A{1} / sqrt(RowSum(squares, partial) / static_cast<A>(cols) + eps);
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
    const Values<A, V> gamma = Load<V>(p.gamma + column(i));
    Values<A, V> y;
#pragma unroll
    for (int k = 0; k < V; ++k) y[k] = (Widen(x[i].at[k]) - mean) * rstd * gamma[k];
    if constexpr (kCentred) {
      const Values<A, V> beta = Load<V>(p.beta + column(i));
#pragma unroll
      for (int k = 0; k < V; ++k) y[k] += beta[k];
    }
    Store<V>(p.out + row * cols + column(i), y);
  }
  if (threadIdx.x == 0) {
    if constexpr (kCentred) p.mean[row] = mean;
    p.rstd[row] = rstd;
  }
}

template <typename T>
struct NormBackwardInputPointers {
  const T *dout, *in, *gamma;       // [rows, cols], [rows, cols], [cols]
  const Arithmetic<T>*mean, *rstd;  // [rows], mean null where not centred
  T* din;                           // [rows, cols], = or +=
};
// g = dout * gamma, n = (x - mean) * rstd: din = rstd * (g - mean_c(g) - n * mean_c(g * n)), without mean_c(g) where not centred. bf16 is
// kept as it is stored, half the registers, and g and n are made twice. Grid as above.
template <typename T, int V, bool kCentred>
__global__ void __launch_bounds__(MaxThreadsPerRow(V))
    NormBackwardInputKernel(NormBackwardInputPointers<T> p, std::int64_t rows, int cols, bool accumulate) {
  using A = Arithmetic<T>;
  __shared__ A partial[MaxThreadsPerRow(V) / kLanesOfWarp];
  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const auto column = [](int i) { return static_cast<int>(i * blockDim.x + threadIdx.x) * V; };

  const A mean = kCentred ? p.mean[row] : A{0}, rstd = p.rstd[row];
  Pack<T, V> dout[kLoadsPerThread], x[kLoadsPerThread];
  A sum_g = 0, sum_gn = 0;
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
    dout[i] = *reinterpret_cast<const Pack<T, V>*>(p.dout + row * cols + column(i));
    x[i] = *reinterpret_cast<const Pack<T, V>*>(p.in + row * cols + column(i));
    const Values<A, V> gamma = Load<V>(p.gamma + column(i));
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const A g = Widen(dout[i].at[k]) * gamma[k], n = (Widen(x[i].at[k]) - mean) * rstd;
      if constexpr (kCentred) sum_g += g;
      sum_gn += g * n;
      if constexpr (std::is_same_v<T, A>) dout[i].at[k] = g, x[i].at[k] = n;
    }
  }
  const A mean_g = kCentred ? RowSum(sum_g, partial) / static_cast<A>(cols) : A{0};
  const A mean_gn = RowSum(sum_gn, partial) / static_cast<A>(cols);
#pragma unroll
  for (int i = 0; i < kLoadsPerThread; ++i) {
    if (column(i) >= cols) continue;
    Values<A, V> y;
    if constexpr (std::is_same_v<T, A>) {
#pragma unroll
      for (int k = 0; k < V; ++k) y[k] = rstd * (dout[i].at[k] - mean_g - x[i].at[k] * mean_gn);
    } else {
      const Values<A, V> gamma = Load<V>(p.gamma + column(i));
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const A g = Widen(dout[i].at[k]) * gamma[k], n = (Widen(x[i].at[k]) - mean) * rstd;
        y[k] = rstd * (g - mean_g - n * mean_gn);
      }
    }
    if (accumulate) {
      const Values<A, V> before = Load<V>(p.din + row * cols + column(i));
#pragma unroll
      for (int k = 0; k < V; ++k) y[k] += before[k];
    }
    Store<V>(p.din + row * cols + column(i), y);
  }
}

// The largest power of two, at most kVectorBytes, that divides every address; null pointers are absent.
template <typename... T>
int AlignmentOf(const T*... pointers) {
  const std::uintptr_t bits = (std::uintptr_t{kVectorBytes} | ... | reinterpret_cast<std::uintptr_t>(pointers));
  return static_cast<int>(bits & (~bits + 1));
}

// launch(config, std::integral_constant<int, V>) launches the kernel with loads of V elements.
template <typename T, typename Launch>
void LaunchRows(Stream& stream, const char* kernel, std::int64_t rows, std::int64_t cols, int alignment, const Launch& launch) {
  constexpr int kWide = kWidest<T>;
  const StreamTarget target = TargetOf(stream);
  const NormProblem problem{rows, cols, sizeof(T), alignment, target.multiprocessors};
  if (!stream.ok() || rows == 0) return;
  const StatusOr<RowLaunch> choice = ChooseRowLaunch(problem);
  if (!choice.ok()) return stream.Fail(choice.status());
  const cudaLaunchConfig_t config =
      LaunchConfig(target, dim3(static_cast<unsigned>(choice->blocks(problem))),
                   dim3(static_cast<unsigned>(choice->threads_per_row), static_cast<unsigned>(choice->rows_per_block)));
  cudaError_t error = cudaErrorInvalidConfiguration;
  const auto with = [&](auto vector) {
    if (choice->vector == vector()) error = launch(config, vector);
  };
  with(std::integral_constant<int, kWide>());
  with(std::integral_constant<int, 1>());
  if constexpr (kWide > 2) with(std::integral_constant<int, 2>());
  if constexpr (kWide > 4) with(std::integral_constant<int, 4>());
  if (error != cudaSuccess)
    stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, absl::StrCat(rows, " rows of ", cols, " columns of ", sizeof(T), " bytes")));
}

template <bool kCentred, typename T>
void LaunchNormForward(Stream& stream, const char* kernel, std::int64_t rows, std::int64_t cols, const NormForwardPointers<T>& p,
                       double eps) {
  LaunchRows<T>(stream, kernel, rows, cols, AlignmentOf(p.in, p.residual, p.gamma, p.beta, p.sum, p.out),
                [&](const cudaLaunchConfig_t& config, auto vector) {
                  return cudaLaunchKernelEx(&config, NormForwardKernel<T, vector(), kCentred>, p, rows, static_cast<int>(cols),
                                            static_cast<Arithmetic<T>>(eps));
                });
}
template <bool kCentred, typename T>
void LaunchNormBackwardInput(Stream& stream, const char* kernel, std::int64_t rows, std::int64_t cols,
                             const NormBackwardInputPointers<T>& p, bool accumulate) {
  LaunchRows<T>(stream, kernel, rows, cols, AlignmentOf(p.dout, p.in, p.gamma, p.din), [&](const cudaLaunchConfig_t& config, auto vector) {
    return cudaLaunchKernelEx(&config, NormBackwardInputKernel<T, vector(), kCentred>, p, rows, static_cast<int>(cols), accumulate);
  });
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_NORM_NORM_ROW_CUDA_CUH_
