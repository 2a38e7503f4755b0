// The sum between ranks on one GPU: out[i] (+)= ((s0[i] + s1[i]) + s2[i]) + ... Bound by memory bandwidth: reads n operands, writes one;
// share of it: not yet run (tests/gpu/comm_test.cc checks it).
//
// Elements are tiled over threads, 16 bytes to a thread where the operands are aligned to that, the rest one by one. The running sum stays
// in registers, so every operand is read once; operands are read in rank order, so the sum has the bits of the host's (fold.cc). A thread
// reads and writes the same elements only, so that an operand may be the result.
#include <cuda_runtime.h>

#include "runtime/comm/fold_cuda.h"
#include "runtime/core/bfloat16.h"
#include "runtime/core/check.h"
#include "runtime/core/float16.h"

namespace lycia::cuda {
namespace {

template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T at[kWidth];
};

// Stored as T, added as Sum.
template <typename T, typename Sum, Fold kFold, int kWidth>
__device__ void FoldPack(const FoldArgs& args, std::int64_t pack) {
  using Elements = Pack<T, kWidth>;
  Sum sum[kWidth];
  const Elements first = static_cast<const Elements*>(args.sources[0])[pack];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum[i] = static_cast<Sum>(first.at[i]);
#pragma unroll 4
  for (int s = 1; s < args.count; ++s) {
    const Elements next = static_cast<const Elements*>(args.sources[s])[pack];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const Sum value = static_cast<Sum>(next.at[i]);
      if constexpr (kFold == Fold::kSum) {
        sum[i] += value;
      } else {
        sum[i] = sum[i] < value ? value : sum[i];
      }
    }
  }
  Elements* out = static_cast<Elements*>(args.out) + pack;
  Elements result;
  if (args.accumulate) result = *out;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    result.at[i] = static_cast<T>(args.accumulate ? static_cast<Sum>(result.at[i]) + sum[i] : sum[i]);
  }
  *out = result;
}

template <typename T, typename Sum, Fold kFold, int kWidth>
__global__ void __launch_bounds__(kFoldThreads) FoldKernel(const __grid_constant__ FoldArgs args) {
  const std::int64_t thread = std::int64_t{blockIdx.x} * kFoldThreads + threadIdx.x, threads = std::int64_t{gridDim.x} * kFoldThreads;
  const std::int64_t packs = args.elements / kWidth;
  for (std::int64_t pack = thread; pack < packs; pack += threads) FoldPack<T, Sum, kFold, kWidth>(args, pack);
  if constexpr (kWidth > 1) {
    for (std::int64_t i = packs * kWidth + thread; i < args.elements; i += threads) FoldPack<T, Sum, kFold, 1>(args, i);
  }
}

template <typename T, typename Sum, Fold kFold>
cudaError_t LaunchOf(cudaStream_t stream, int multiprocessors, const FoldArgs& args) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const int width = FoldWidth(args);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(FoldBlocks(args.elements, width, multiprocessors)));
  config.blockDim = dim3(kFoldThreads);
  config.stream = stream;
  if (width == kWide) return cudaLaunchKernelEx(&config, FoldKernel<T, Sum, kFold, kWide>, args);
  return cudaLaunchKernelEx(&config, FoldKernel<T, Sum, kFold, 1>, args);
}

template <Fold kFold>
cudaError_t LaunchFor(cudaStream_t stream, int multiprocessors, const FoldArgs& args) {
  switch (args.dtype) {
    case DType::kBF16:
      return LaunchOf<BFloat16, float, kFold>(stream, multiprocessors, args);
    case DType::kF16:
      return LaunchOf<Float16, float, kFold>(stream, multiprocessors, args);
    case DType::kF32:
      return LaunchOf<float, float, kFold>(stream, multiprocessors, args);
    case DType::kF64:
      return LaunchOf<double, double, kFold>(stream, multiprocessors, args);
    case DType::kI64:
      // A sum wraps instead of overflowing.
      if constexpr (kFold == Fold::kSum) return LaunchOf<std::uint64_t, std::uint64_t, kFold>(stream, multiprocessors, args);
      return LaunchOf<std::int64_t, std::int64_t, kFold>(stream, multiprocessors, args);
    default:
      LYCIA_CHECK(CanFold(args.dtype)) << "no sum of " << Name(args.dtype) << " ";
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t LaunchFold(cudaStream_t stream, int multiprocessors, const FoldArgs& args) {
  if (args.elements == 0) return cudaSuccess;
  return args.fold == Fold::kSum ? LaunchFor<Fold::kSum>(stream, multiprocessors, args)
                                 : LaunchFor<Fold::kLargest>(stream, multiprocessors, args);
}

}  // namespace lycia::cuda
