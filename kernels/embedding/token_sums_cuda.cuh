// Sums of rows by token, in the order of their places, without atomics: first every place finds its rank among all tokens sorted by value,
// then place; then one thread of each run of equal tokens and pack of features adds the run's rows in order. The same order as on the CPU.
//
// Ranking compares all pairs of places, from the first-level cache: n² comparisons, 10 us for 8,192 tokens, 0.6 ms for 65,536
// (estimated; not yet run). Adding reads the rows once, four on the way; the longest run, about a twentieth of all tokens, is its limit.
#ifndef LYCIA_KERNELS_EMBEDDING_TOKEN_SUMS_CUDA_CUH_
#define LYCIA_KERNELS_EMBEDDING_TOKEN_SUMS_CUDA_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/map_launch.h"
#include "kernels/cuda/pack.cuh"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

inline constexpr int kRankWarps = 8;     // of a block, one token each
inline constexpr int kSumThreads = 128;  // of a block: 512 features of f32 gradients

// In scratch: order[rank] = place; run[rank] = tokens equal to that place's where it is the first of them, else 0.
struct TokenOrder {
  std::int32_t *order, *run;
};

// Grid: n / kRankWarps blocks of (32, kRankWarps). Tokens outside [0, vocabulary) are reported, and ranked like others.
static __global__ void __launch_bounds__(32 * kRankWarps)
    RankTokensKernel(const std::int32_t* tokens, int n, int vocabulary, TokenOrder to, FaultWord* fault) {
  const int lane = static_cast<int>(threadIdx.x), place = static_cast<int>(blockIdx.x * kRankWarps + threadIdx.y);
  if (place >= n) return;
  const std::int32_t token = tokens[place];
  int less = 0, before = 0, equal = 0;
#pragma unroll 4
  for (int other = lane; other < n; other += 32) {
    const std::int32_t value = tokens[other];
    less += value < token;
    equal += value == token;
    before += value == token && other < place;
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    less += __shfl_xor_sync(0xffffffffu, less, distance);
    equal += __shfl_xor_sync(0xffffffffu, equal, distance);
    before += __shfl_xor_sync(0xffffffffu, before, distance);
  }
  if (lane != 0) return;
  to.order[less + before] = place;
  to.run[less + before] = before == 0 ? equal : 0;
  if (token < 0 || token >= vocabulary) *fault = {1, token, place, vocabulary};
}

// table[token - first] += rows of that token, in order. Grid: (n, features / (kSumThreads * V)).
template <typename T, int V>
__global__ void __launch_bounds__(kSumThreads) AddRunsKernel(const std::int32_t* tokens, TokenOrder by, const T* rows, Arithmetic<T>* table,
                                                             std::int64_t first, std::int64_t table_rows, std::int64_t cols) {
  const int run = by.run[blockIdx.x];
  const std::int64_t col = (std::int64_t{blockIdx.y} * kSumThreads + threadIdx.x) * V;
  if (run == 0 || col >= cols) return;
  const std::int32_t* places = by.order + blockIdx.x;
  const std::int64_t row = tokens[places[0]] - first;
  if (row < 0 || row >= table_rows) return;
  Arithmetic<T>* to = table + row * cols + col;
  Values<Arithmetic<T>, V> sum = Load<V>(to);
#pragma unroll 4
  for (int i = 0; i < run; ++i) {
    const Values<Arithmetic<T>, V> x = Load<V>(rows + places[i] * cols + col);
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] += x[k];
  }
  Store<V>(to, sum);
}

struct TokenSumArgs {
  const std::int32_t* tokens = nullptr;  // [n]
  std::int64_t n = 0, cols = 0;
  std::int64_t vocabulary = 0;             // tokens outside [0, vocabulary) fail the stream
  std::int64_t first = 0, table_rows = 0;  // of the table: tokens outside [first, first + table_rows) are another's
};

// table [table_rows, cols] += rows [n, cols].
template <typename T>
void AddByToken(Stream& stream, const char* kernel, const TokenSumArgs& args, const T* rows, Arithmetic<T>* table) {
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || args.n == 0 || args.cols == 0) return;
  if (2 * args.n * static_cast<std::int64_t>(sizeof(std::int32_t)) > kKernelWorkspaceBytes)
    return stream.Fail(InvalidArgument(kernel, " of ", args.n, " tokens: at most 4,194,304 in a micro-batch; use a smaller one"));
  auto* scratch = static_cast<std::int32_t*>(target.kernel_workspace);
  const TokenOrder order{scratch, scratch + args.n};
  const cudaLaunchConfig_t rank =
      LaunchConfig(target, dim3(static_cast<unsigned>((args.n + kRankWarps - 1) / kRankWarps)), dim3(32, kRankWarps));
  cudaError_t error = cudaLaunchKernelEx(&rank, RankTokensKernel, args.tokens, static_cast<int>(args.n), static_cast<int>(args.vocabulary),
                                         order, target.faults + static_cast<int>(Fault::kToken));
  constexpr int kVector = kWidest<Arithmetic<T>>;
  const bool wide =
      MapAllows(kVector, {{rows, sizeof(T), args.cols}, {table, sizeof(Arithmetic<T>), args.cols}}) && args.cols % kVector == 0;
  const std::int64_t block = std::int64_t{kSumThreads} * (wide ? kVector : 1);
  const cudaLaunchConfig_t add =
      LaunchConfig(target, dim3(static_cast<unsigned>(args.n), static_cast<unsigned>((args.cols + block - 1) / block)), dim3(kSumThreads));
  if (error == cudaSuccess) {
    error =
        wide ? cudaLaunchKernelEx(&add, AddRunsKernel<T, kVector>, args.tokens, order, rows, table, args.first, args.table_rows, args.cols)
             : cudaLaunchKernelEx(&add, AddRunsKernel<T, 1>, args.tokens, order, rows, table, args.first, args.table_rows, args.cols);
  }
  if (error != cudaSuccess)
    stream.Fail(ToStatus(error, kernel, __FILE__, __LINE__, absl::StrCat(args.n, " tokens of ", args.cols, " features")));
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_EMBEDDING_TOKEN_SUMS_CUDA_CUH_
