// Sums of squares of 4,096-element blocks on CUDA: one thread block for each, 16 elements a thread, all sums in f64 and in one fixed order:
// a thread adds its elements (thread t has t, t + 256, ...), then pairs of lanes, then the warps in order. Other than the CPU's order, so
// the two agree to rounding, not in bits. Bytes moved: the elements, once, 8 / 4,096 bytes an element back. Bound by memory bandwidth;
// share of it: not yet run (tests/gpu measures it).
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/optimizer/squared_norm.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
static_assert(kSquaredNormBlock % kThreads == 0);

template <typename T>
__global__ void __launch_bounds__(kThreads) SquaredNormKernel(const T* x, double* block_sums, std::int64_t n) {
  __shared__ double of_warp[kThreads / kWarp];
  const std::int64_t begin = std::int64_t{blockIdx.x} * kSquaredNormBlock;
  double sum = 0;
#pragma unroll
  for (int i = 0; i < kSquaredNormBlock / kThreads; ++i) {
    const std::int64_t at = begin + i * kThreads + threadIdx.x;
    const double value = at < n ? static_cast<double>(x[at]) : 0.0;
    sum += value * value;
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0;
  for (double part : of_warp) total += part;
  block_sums[blockIdx.x] = total;
}

}  // namespace

void SquaredNormBlocks(Stream& stream, const SquaredNormArgs& args) {
  const std::int64_t n = args.x.elements();
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || n == 0) return;
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(NumSquaredNormBlocks(n))), dim3(kThreads));
  DispatchFloat(args.x.dtype, [&]<typename T>() {
    stream.Fail(LYCIA_CUDA_STATUS(cudaLaunchKernelEx(&config, SquaredNormKernel<T>, args.x.as<T>(), args.block_sums, n), n, " elements of ",
                                  sizeof(T), " bytes"));
  });
}

}  // namespace lycia::cuda
