// Sums of all that comes before, in two kernels: the tiles' sums, then every tile from the sums before it. Numbers are int32, so that no
// order of additions matters. What is summed is a struct:
//
//   struct Flags {
//     __device__ std::int32_t Value(std::int64_t i) const;                                    // asked twice
//     __device__ void Put(std::int64_t i, std::int32_t before, std::int32_t value) const;     // before: the sum of Value(0 .. i - 1)
//     __device__ void Finish(std::int32_t total) const;                                       // once
//   };
// Bytes moved: what Value reads twice, what Put writes once; a tile also reads the sums of the tiles before it, 4 bytes per 1,024 numbers
// each, which is little below 10^7 numbers. Bound by two launches for the sizes of a micro-batch.
#ifndef LYCIA_KERNELS_CUDA_SCAN_CUH_
#define LYCIA_KERNELS_CUDA_SCAN_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

inline constexpr int kScanThreads = 256;
inline constexpr int kScanItems = 4;  // of a thread, one after the other
inline constexpr int kScanTile = kScanThreads * kScanItems;

constexpr std::int64_t ScanTiles(std::int64_t count) { return (count + kScanTile - 1) / kScanTile; }
// Scratch.
constexpr std::int64_t ScanBytes(std::int64_t count) { return ScanTiles(count) * 4; }

// The sum of the block's threads before this one, and of all; every thread comes.
struct BlockScan {
  std::int32_t before, total;
};
__device__ inline BlockScan ScanBlock(std::int32_t value) {
  constexpr int kWarps = kScanThreads / 32;
  __shared__ std::int32_t of_warp[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::int32_t sum = value;
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const std::int32_t other = __shfl_up_sync(0xffffffffu, sum, static_cast<unsigned>(delta));
    if (lane >= delta) sum += other;
  }
  __syncthreads();  // the sums of a call before have been read
  if (lane == 31) of_warp[warp] = sum;
  __syncthreads();
  BlockScan scan{sum - value, 0};
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) scan.before += of_warp[w];
    scan.total += of_warp[w];
  }
  return scan;
}

template <typename F>
__global__ void __launch_bounds__(kScanThreads) ScanSumsKernel(F f, std::int64_t count, std::int32_t* sums) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kScanTile + threadIdx.x * kScanItems;
  std::int32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kScanItems; ++i) {
    if (first + i < count) sum += f.Value(first + i);
  }
  const BlockScan scan = ScanBlock(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = scan.total;
}

template <typename F>
__global__ void __launch_bounds__(kScanThreads) ScanPutKernel(F f, std::int64_t count, const std::int32_t* sums) {
  std::int32_t before = 0;
  for (int tile = static_cast<int>(threadIdx.x); tile < static_cast<int>(blockIdx.x); tile += kScanThreads) before += sums[tile];
  const std::int32_t base = ScanBlock(before).total;
  const std::int64_t first = std::int64_t{blockIdx.x} * kScanTile + threadIdx.x * kScanItems;
  std::int32_t values[kScanItems] = {}, sum = 0;
#pragma unroll
  for (int i = 0; i < kScanItems; ++i) {
    if (first + i < count) values[i] = f.Value(first + i);
    sum += values[i];
  }
  const BlockScan scan = ScanBlock(sum);
  std::int32_t at = base + scan.before;
#pragma unroll
  for (int i = 0; i < kScanItems; ++i) {
    if (first + i < count) f.Put(first + i, at, values[i]);
    at += values[i];
  }
  if (blockIdx.x + 1 == gridDim.x && threadIdx.x == 0) f.Finish(base + scan.total);
}

// sums: ScanBytes(count) of device memory. count is at least 1.
template <typename F>
void LaunchScan(Stream& stream, const char* kernel, std::int64_t count, const F& f, std::int32_t* sums) {
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok()) return;
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(ScanTiles(count))), dim3(kScanThreads));
  cudaError_t error = cudaLaunchKernelEx(&config, ScanSumsKernel<F>, f, count, sums);
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, ScanPutKernel<F>, f, count, static_cast<const std::int32_t*>(sums));
  if (error != cudaSuccess) stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, absl::StrCat(count, " numbers")));
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_SCAN_CUH_
