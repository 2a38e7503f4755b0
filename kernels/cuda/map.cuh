// A kernel for functions of single elements, or of elements at one place of several matrices. One thread has one pack: up to 16 bytes of
// each operand, so that a full multiprocessor has 32 KiB of every operand on the way, twice what the latency of memory asks for.
//
//   struct Negate {
//     static constexpr int kVector = kWidest<float>;  // elements of a pack where all operands allow it
//     const float* in; float* out;
//     template <int V> __device__ void Run(std::int64_t row, std::int64_t col) const { V elements from there }
//   };
//   LaunchMap(stream, "Negate", rows, cols, {Rows(in, cols), Rows(out, cols)}, Negate{in, out});
#ifndef LYCIA_KERNELS_CUDA_MAP_CUH_
#define LYCIA_KERNELS_CUDA_MAP_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/map_launch.h"
#include "kernels/cuda/pack.cuh"
#include "runtime/core/check.h"
#include "runtime/core/tensor.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

struct RowColumn {
  std::int64_t row, column;
};
// i / width and the rest, in 32 bits: a division of 64 costs about a hundred instructions.
__device__ __forceinline__ RowColumn SplitIndex(std::int64_t i, std::int64_t width) {
  const auto small = static_cast<std::uint32_t>(i), divisor = static_cast<std::uint32_t>(width);
  return {small / divisor, small % divisor};
}

// Operands of a map over one row, and over rows that begin every ld elements.
template <typename T>
MapOperand Flat(const T* data) {
  return {data, sizeof(T), 0};
}
template <typename T>
MapOperand Rows(const T* data, std::int64_t ld) {
  return {data, sizeof(T), ld};
}

template <int V, typename F>
__global__ void __launch_bounds__(kMapThreads) MapKernel(F f, std::int64_t rows, std::int64_t cols) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kMapThreads + threadIdx.x, packs = PacksOfRow(cols, V);
  if (i >= rows * packs) return;
  const RowColumn at = rows == 1 ? RowColumn{0, i} : SplitIndex(i, packs);
  const std::int64_t col = at.column * V;
  if (V == 1 || col + V <= cols) {
    f.template Run<V>(at.row, col);
  } else {
    for (std::int64_t c = col; c < cols; ++c) f.template Run<1>(at.row, c);
  }
}

template <typename F>
void LaunchMap(Stream& stream, const char* kernel, std::int64_t rows, std::int64_t cols, std::initializer_list<MapOperand> operands,
               const F& f) {
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || rows == 0 || cols == 0) return;
  const bool wide = MapAllows(F::kVector, operands);
  const int vector = wide ? F::kVector : 1;
  if (rows > 1 && rows * PacksOfRow(cols, vector) > UINT32_MAX) {
    return stream.Fail(InvalidArgument(kernel, " over [", rows, ", ", cols, "]: more than 2^32 accesses of ", vector,
                                       " elements; split the call, or align rows to 16 bytes"));
  }
  const std::int64_t blocks = MapBlocks(rows, cols, vector);
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(blocks)), dim3(kMapThreads));
  const cudaError_t error = wide ? cudaLaunchKernelEx(&config, MapKernel<F::kVector, F>, f, rows, cols)
                                 : cudaLaunchKernelEx(&config, MapKernel<1, F>, f, rows, cols);
  if (error != cudaSuccess) stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, absl::StrCat("[", rows, ", ", cols, "]")));
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_MAP_CUH_
