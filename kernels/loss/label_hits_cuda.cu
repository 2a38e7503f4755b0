// Which labels have the largest logit, on CUDA: a row a block, every logit read once. Bytes moved: rows * V elements. Bound by memory
// bandwidth; share of it: not yet run.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/map_launch.h"
#include "kernels/loss/label_hits.h"
#include "kernels/loss/loss_row_cuda.cuh"
#include "kernels/loss/sample_sums_cuda.cuh"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// hits: [rows], 1 where no logit is larger than the label's, or NaN. Grid: rows blocks of LossThreads.
template <typename T, int V>
__global__ void __launch_bounds__(kMaxLossThreads)
    LabelHitsKernel(const T* logits, const std::int32_t* labels, std::int64_t size, double* hits) {
  using A = Arithmetic<T>;
  __shared__ int of_warp[kMaxLossThreads / 32];
  const std::int64_t row = blockIdx.x, first = row * size;
  const std::int32_t label = labels[row];
  if (label < 0 || label >= size) {  // none, or one that the loss reports
    if (threadIdx.x == 0) hits[row] = 0;
    return;
  }
  const A at_label = Widen(logits[first + label]);
  int others = 0;
  ForRow<V>(first, size, [&]<int W>(std::int64_t i) {
    const Values<A, W> x = Load<W>(logits + first + i);
#pragma unroll
    for (int k = 0; k < W; ++k) others += x[k] <= at_label ? 0 : 1;
  });
  for (int distance = 16; distance > 0; distance /= 2) others += __shfl_xor_sync(0xffffffffu, others, distance);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = others;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned w = 1; w < blockDim.x / 32; ++w) others += of_warp[w];
  hits[row] = others == 0 ? 1 : 0;
}

}  // namespace

void LabelHits(Stream& stream, const LabelHitsArgs& args) {
  LYCIA_CHECK_EQ(args.logits.shape.rank(), 3);
  const std::int64_t B = args.logits.shape[0], T = args.logits.shape[1], size = args.logits.shape[2], rows = B * T;
  LYCIA_CHECK_EQ(args.labels.elements(), rows);
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || B == 0) return;
  if (rows * static_cast<std::int64_t>(sizeof(double)) > kKernelWorkspaceBytes)
    return stream.Fail(InvalidArgument("label hits of ", rows, " tokens: at most 4,194,304 in a micro-batch; use a smaller one"));
  auto* hits = static_cast<double*>(target.kernel_workspace);
  cudaError_t error = cudaSuccess;
  DispatchAnyStored(args.logits.dtype, [&]<typename N>() {
    const N* logits = args.logits.as<N>();
    constexpr int kVector = kWidest<N>;
    const bool wide = MapAllows(kVector, {{logits, sizeof(N)}});
    if (rows > 0) {
      const cudaLaunchConfig_t config =
          LaunchConfig(target, dim3(static_cast<unsigned>(rows)), dim3(static_cast<unsigned>(LossThreads(size, wide ? kVector : 1))));
      const auto kernel = wide ? LabelHitsKernel<N, kVector> : LabelHitsKernel<N, 1>;
      error = cudaLaunchKernelEx(&config, kernel, logits, args.labels.as<std::int32_t>(), size, hits);
    }
  });
  if (error == cudaSuccess) {
    const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(B)), dim3(32));
    error = cudaLaunchKernelEx(&config, SampleSumsKernel<double>, static_cast<const double*>(hits), T, args.sample_hits);
  }
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "LabelHits", __FILE__, __LINE__, absl::StrCat(rows, " rows of ", size, " logits")));
}

}  // namespace lycia::cuda
