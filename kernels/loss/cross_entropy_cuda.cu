// Softmax cross-entropy on CUDA, a row of logits a block of up to 512 threads, two blocks a multiprocessor. A row is read from memory once:
// for its largest logit and the sum of exponentials together (rescaled when a larger logit comes); then once more, from the second-level
// cache (264 rows of 50,257 bf16 logits are 27 MB of 50), for the gradient, which may take its place. Bytes moved: 2 * rows * V elements, 8
// a row for the losses. Bound by memory bandwidth; share of it: not yet run (tests/gpu measures it). Rows of odd length begin unaligned:
// what lies between their packs' borders goes one by one.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/map_launch.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/loss_row_cuda.cuh"
#include "kernels/loss/sample_sums_cuda.cuh"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

template <typename T, typename G>
struct LossPointers {
  const T* logits;             // [rows, size]
  const std::int32_t* labels;  // [rows]
  double* losses;              // [rows], or null
  G* dlogits;                  // [rows, size], or null
  FaultWord* fault;
};

// Grid: rows blocks of LossThreads.
template <typename T, typename G, int V>
__global__ void __launch_bounds__(kMaxLossThreads, 2) CrossEntropyKernel(LossPointers<T, G> p, std::int64_t size, double scale) {
  using A = Arithmetic<T>;
  __shared__ ExpSum<A> of_warp[kMaxLossThreads / 32];
  const std::int64_t row = blockIdx.x, first = row * size;
  const std::int32_t label = p.labels[row];
  if (label < 0 || label >= size) {
    if (threadIdx.x == 0) {
      if (label != -1) *p.fault = {1, label, static_cast<int>(row), static_cast<int>(size)};
      if (p.losses != nullptr) p.losses[row] = 0;
    }
    if (p.dlogits == nullptr) return;
    ForRow<V>(first, size, [&]<int W>(std::int64_t i) { Store<W>(p.dlogits + first + i, Values<Arithmetic<G>, W>{}); });
    return;
  }
  const A at_label = Widen(p.logits[first + label]);  // before the gradient takes its place
  const ExpSum<A> s = MergeBlock(SumOfRow<V>(p.logits + first, first, size), of_warp);
  if (threadIdx.x == 0 && p.losses != nullptr)
    p.losses[row] = log(static_cast<double>(s.sum)) + static_cast<double>(s.largest) - static_cast<double>(at_label);
  if (p.dlogits == nullptr) return;
  __syncthreads();  // every thread of a block of one warp, too, has read the label's logit
  WriteLossGradient<V>(p.logits + first, first, size, s.largest, static_cast<A>(scale / static_cast<double>(s.sum)), static_cast<A>(scale),
                       label, p.dlogits + first);
}

template <typename T, typename G>
void Run(Stream& stream, const CrossEntropyArgs& args) {
  const std::int64_t B = args.logits.shape[0], T_ = args.logits.shape[1], size = args.logits.shape[2], rows = B * T_;
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || B == 0) return;
  if (rows * static_cast<std::int64_t>(sizeof(double)) > kKernelWorkspaceBytes)
    return stream.Fail(InvalidArgument("cross-entropy of ", rows, " tokens: at most 4,194,304 in a micro-batch; use a smaller one"));
  auto* losses = static_cast<double*>(target.kernel_workspace);
  const LossPointers<T, G> p{args.logits.as<T>(), args.labels.as<std::int32_t>(), args.sample_losses == nullptr ? nullptr : losses,
                             args.dlogits.data == nullptr ? nullptr : args.dlogits.as<G>(),
                             target.faults + static_cast<int>(Fault::kLabel)};
  // The widest that both allow; packs are aligned to the tensor, whatever its rows are.
  constexpr int kVector = kWidest<T> < kWidest<G> ? kWidest<T> : kWidest<G>;
  const bool wide = MapAllows(kVector, {{p.logits, sizeof(T)}, {p.dlogits, sizeof(G)}});
  cudaError_t error = cudaSuccess;
  if (rows > 0) {
    const cudaLaunchConfig_t config =
        LaunchConfig(target, dim3(static_cast<unsigned>(rows)), dim3(static_cast<unsigned>(LossThreads(size, wide ? kVector : 1))));
    error = wide ? cudaLaunchKernelEx(&config, CrossEntropyKernel<T, G, kVector>, p, size, args.scale)
                 : cudaLaunchKernelEx(&config, CrossEntropyKernel<T, G, 1>, p, size, args.scale);
  }
  if (error == cudaSuccess && args.sample_losses != nullptr) {
    const cudaLaunchConfig_t config = LaunchConfig(target, dim3(static_cast<unsigned>(B)), dim3(32));
    error = cudaLaunchKernelEx(&config, SampleSumsKernel<double>, static_cast<const double*>(losses), T_, args.sample_losses);
  }
  if (error != cudaSuccess)
    stream.Fail(ToStatus(error, "CrossEntropy", __FILE__, __LINE__, absl::StrCat(rows, " rows of ", size, " logits")));
}

}  // namespace

void CrossEntropy(Stream& stream, const CrossEntropyArgs& args) {
  LYCIA_CHECK_EQ(args.logits.shape.rank(), 3);
  const std::int64_t B = args.logits.shape[0], T = args.logits.shape[1], V = args.logits.shape[2];
  LYCIA_CHECK_EQ(args.labels.elements(), B * T);
  if (args.dlogits.data != nullptr) LYCIA_CHECK_EQ(args.dlogits.elements(), B * T * V);
  if (args.logits.dtype == DType::kF32 && args.dlogits.data != nullptr && SizeOf(args.dlogits.dtype) == 2) {
    LYCIA_CHECK(args.dlogits.data != args.logits.data) << "dlogits of another type takes the place of the logits ";
    return args.dlogits.dtype == DType::kF16 ? Run<float, Float16>(stream, args) : Run<float, BFloat16>(stream, args);
  }
  DispatchAnyStored(args.logits.dtype, [&]<typename N>() { Run<N, N>(stream, args); });
}

}  // namespace lycia::cuda
