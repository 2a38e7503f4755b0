// Sums of squares of 4,096-element blocks on CUDA: one thread block for each, 16 elements a thread, all sums in f64 and in one fixed order:
// a thread adds its elements (thread t has t, t + 256, ...), then pairs of lanes, then the warps in order. Other than the CPU's order, so
// the two agree to rounding, not in bits. Bytes moved: the elements, once, 8 / 4,096 bytes an element back. Bound by memory bandwidth;
// share of it: not yet run (tests/gpu measures it). One launch takes up to 48 segments: a model has hundreds, most of them of one block,
// whose launches would take longer than their sums. A block finds its segment by bisection; which launch it is part of changes no bit.
#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "kernels/optimizer/optimizer_cuda_launch.h"
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
struct NormSegment {
  const T* x;
  double* block_sums;
  std::int64_t n;
};
template <typename T>
struct NormBatch {
  NormSegment<T> segments[kSegmentsAtOnce];
  std::int32_t first_blocks[kSegmentsAtOnce];
  int count;
};
static_assert(sizeof(NormBatch<double>) <= 4000);

// Grid: the blocks of the segments, one after the other.
template <typename T>
__global__ void __launch_bounds__(kThreads) SquaredNormKernel(NormBatch<T> batch) {
  __shared__ double of_warp[kThreads / kWarp];
  const int s = SegmentOfBlock(batch.first_blocks, batch.count, static_cast<std::int32_t>(blockIdx.x));
  const NormSegment<T>& segment = batch.segments[s];
  const std::int64_t block = std::int64_t{blockIdx.x} - batch.first_blocks[s], begin = block * kSquaredNormBlock;
  double sum = 0;
#pragma unroll
  for (int i = 0; i < kSquaredNormBlock / kThreads; ++i) {
    const std::int64_t at = begin + i * kThreads + threadIdx.x;
    const double value = at < segment.n ? static_cast<double>(segment.x[at]) : 0.0;
    sum += value * value;
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0;
  for (double part : of_warp) total += part;
  segment.block_sums[block] = total;
}

template <typename T>
void Launch(Stream& stream, const StreamTarget& target, std::span<const SquaredNormArgs> segments) {
  NormBatch<T> batch{};
  std::int64_t blocks = 0, elements = 0;
  for (const SquaredNormArgs& args : segments) {
    const std::int64_t n = args.x.elements();
    if (n == 0) continue;
    batch.segments[batch.count] = {args.x.as<T>(), args.block_sums, n};
    batch.first_blocks[batch.count++] = static_cast<std::int32_t>(blocks);
    blocks += NumSquaredNormBlocks(n);
    elements += n;
  }
  if (batch.count == 0) return;
  if (blocks > INT32_MAX) {
    return stream.Fail(InvalidArgument("the norm of ", elements, " elements of ", batch.count, " segments: at most 2^31 blocks of ",
                                       kSquaredNormBlock, "; use more ranks"));
  }
  const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(blocks)), dim3(kThreads));
  stream.Fail(
      LYCIA_CUDA_STATUS(cudaLaunchKernelEx(&config, SquaredNormKernel<T>, batch), elements, " elements of ", batch.count, " segments"));
}

}  // namespace

void SquaredNormBlocks(Stream& stream, std::span<const SquaredNormArgs> segments) {
  const StreamTarget target = TargetOf(stream);
  while (stream.ok() && !segments.empty()) {
    std::size_t count = 1;
    while (count < segments.size() && count < kSegmentsAtOnce && segments[count].x.dtype == segments[0].x.dtype) ++count;
    DispatchFloat(segments[0].x.dtype, [&]<typename T>() { Launch<T>(stream, target, segments.first(count)); });
    segments = segments.subspan(count);
  }
}

}  // namespace lycia::cuda
