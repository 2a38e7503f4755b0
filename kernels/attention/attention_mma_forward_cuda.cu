// The attention forward on the tensor cores from sm_80 on, for 16-bit types, after FlashAttention-2 (Dao 2023, algorithm 1): a block has 64
// queries of one head and passes over tiles of 64 keys, four warps of 16 queries with all their sums in registers. It is also the readable
// reference of Hopper's (attention_forward_hopper.cuh), and serves what that does not: dropout, block masks, packed sequences, other heads.
//
//   s = q kᵀ;  hidden scores -infinity;  p, sums by the online softmax;  dropped p zero;  out = out shrunk + p v;  at the end out keep /
//   sum
//
//   key tile      |  wait, barrier   copy of v starts    s = q kᵀ
//                 |  wait, barrier   copy of the next k starts   softmax, out += p v
//
// Shared memory: q, k and v once each, 24 KiB of 64 features, 48 KiB of 128: six and three blocks fit a multiprocessor of sm_80 (two of
// 128 features 8.6's). Registers of a thread: out D / 2, scores 32, p 16; with addresses and operands on their way 168 and 243, so that
// three and two blocks run, one's products under the other's copies and exponentials. Tiles that nobody sees are neither copied nor
// computed; only tiles at the edge of what is seen are masked. What is hidden within such a tile is multiplied by zero: a NaN among its
// values spreads over the tile, one among its keys does not.
//
// Bytes moved: 2 D (2 T + 2 S T / 64) a head, keys and values from the L2 cache: 64 operations a byte. Operations: 4 T S D a head, on the
// visible part. Expected limit: shared memory, from which a warp reads 256 bytes of k or v for each 16 x 8 x 16 product: as many cycles as
// the tensor cores of sm_80 take for it, half of their rate with the exponentials. Dropout adds half of Philox' ten rounds a score. Not yet
// run.
#include <cuda_runtime.h>

#include "kernels/attention/attention_mma.cuh"
#include "kernels/attention/attention_mma_cuda.h"
#include "kernels/attention/attention_mma_launch.h"
#include "kernels/attention/online_softmax.cuh"
#include "kernels/cuda/dynamic_shared.cuh"

namespace lycia::cuda {
namespace {

template <typename T>
struct MmaForwardPointers {
  PlainHeads<const T> q, k, v;
  PlainHeads<T> out;
  float* log_sum_exp;  // [B, H, T]
};

// Grid: (query tiles, H, B), the last queries first, which see most keys under a causal mask.
template <typename T, int kHeadDim>
__global__ void __launch_bounds__(128) MmaForwardKernel(MmaForwardPointers<T> p, PlainShape s, AttentionSight sight) {
  constexpr MmaTiling kTiling = kHeadDim == kMma64.head_dim ? kMma64 : kMma128;
  constexpr int kRows = kTiling.rows, kStep = kTiling.step, kScores = kStep / 2;
  static_assert(kTiling.threads() == 128);
  char* shared = DynamicShared();
  const MmaTile<kRows> q{shared};
  const MmaTile<kStep> k{shared + kTiling.row_bytes()}, v{shared + kTiling.row_bytes() + kTiling.step_bytes()};
  const int warp = static_cast<int>(threadIdx.x) / kMmaLanes, lane = static_cast<int>(threadIdx.x) % kMmaLanes;
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows, row = warp * kMmaRows;
  const int head = static_cast<int>(blockIdx.y), key_head = head / s.heads_per_key, sample = static_cast<int>(blockIdx.z);
  const int query = first_query + row + lane / 4;  // and query + 8
  const T *keys = p.k.Row(sample, 0, key_head), *values = p.v.Row(sample, 0, key_head);
  const Interval seen = sight.KeysOfTile(first_query, kRows), shown[2] = {sight.KeysOf(query), sight.KeysOf(query + 8)};

  float out[kHeadDim / 2];
#pragma unroll
  for (int i = 0; i < kHeadDim / 2; ++i) out[i] = 0;
  OnlineSoftmax<kScores> softmax(static_cast<float>(s.scale));
  int key = sight.NextKeys(first_query, kRows, seen.begin / kStep * kStep, seen.end, kStep);
  CopyTile<kHeadDim>(q, p.q.Row(sample, 0, head), p.q.row_stride, first_query, s.queries, s.head_dim);
  if (key < seen.end) CopyTile<kHeadDim>(k, keys, p.k.row_stride, key, s.keys, s.head_dim);
  while (key < seen.end) {
    const int next = sight.NextKeys(first_query, kRows, key + kStep, seen.end, kStep), column = key + lane % 4 * 2;
    WaitAllCopies();
    __syncthreads();  // q and k are there; v has been read
    CopyTile<kHeadDim>(v, values, p.v.row_stride, key, s.keys, s.head_dim);
    float scores[kScores];
#pragma unroll
    for (int i = 0; i < kScores; ++i) scores[i] = 0;
    AddScores<T, kHeadDim>(scores, q, row, k, lane);
    WaitAllCopies();
    __syncthreads();  // v is there; k has been read
    if (next < seen.end) CopyTile<kHeadDim>(k, keys, p.k.row_stride, next, s.keys, s.head_dim);
    if (sight.Of(first_query, kRows, key, kStep) == Sight::kSome) {
      HideOutside(scores, shown, column, -INFINITY);
      if (sight.block != 0) {
        SetUnless(scores, ScoreBits<kScores>(query, column, [&](int i, int j) { return sight.InBlocks(i, j); }), -INFINITY);
      }
    }
    float factors[2];
    softmax.Next(scores, factors);
    ScaleRows(out, factors);
    if (s.dropout.threshold != 0) SetUnless(scores, KeptBits<kScores>(s.dropout, sample, head, query, column), 0);
    std::uint32_t probabilities[kScores / 2];
    PackPairs<T>(scores, probabilities);
    AddWeighted<T, kHeadDim>(out, probabilities, v, lane);
    key = next;
  }
  WaitAllCopies();
  __syncthreads();  // q is there even if nobody saw a key: it may be written over

  float inverse_sums[2], log_sums[2];
  softmax.Finish(inverse_sums, log_sums);
  const auto keep = static_cast<float>(s.dropout.keep);
  const float factors[2] = {inverse_sums[0] * keep, inverse_sums[1] * keep};
  StoreRows<T, kHeadDim>(out, factors, q, row, lane, p.out.Row(sample, first_query + row, head), p.out.row_stride,
                         s.queries - first_query - row, s.head_dim);
  if (lane % 4 == 0) {
    float* log_sum_exp = p.log_sum_exp + (std::int64_t{sample} * s.heads + head) * s.queries;
    if (query < s.queries) log_sum_exp[query] = log_sums[0];
    if (query + 8 < s.queries) log_sum_exp[query + 8] = log_sums[1];
  }
}

template <typename T, int kHeadDim>
cudaError_t Launch(const StreamTarget& target, const MmaTiling& tiling, const AttentionForwardArgs& args, const PlainShape& shape) {
  const AttentionProblem& p = args.problem;
  constexpr auto kKernel = MmaForwardKernel<T, kHeadDim>;
  if (const cudaError_t error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, tiling.forward_bytes());
      error != cudaSuccess) {
    return error;
  }
  cudaLaunchConfig_t config = LaunchConfig(target,
                                           dim3(static_cast<unsigned>((p.queries + tiling.rows - 1) / tiling.rows),
                                                static_cast<unsigned>(p.heads), static_cast<unsigned>(p.samples)),
                                           dim3(static_cast<unsigned>(tiling.threads())));
  config.dynamicSmemBytes = static_cast<std::size_t>(tiling.forward_bytes());
  const MmaForwardPointers<T> pointers{.q = PlainHeads<const T>::Of(args.q),
                                       .k = PlainHeads<const T>::Of(args.k),
                                       .v = PlainHeads<const T>::Of(args.v),
                                       .out = PlainHeads<T>::Of(args.out),
                                       .log_sum_exp = args.log_sum_exp.as<float>()};
  return cudaLaunchKernelEx(&config, kKernel, pointers, shape, SightOf(shape));
}

}  // namespace

void MmaAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  const AttentionProblem& p = args.problem;
  const StreamTarget target = TargetOf(stream);
  std::int64_t taken = 0;
  const PlainShape shape = MakePlainShape(stream, target, p, &taken);
  if (!stream.ok() || p.samples == 0 || p.heads == 0 || p.queries == 0) return;
  const MmaTiling tiling = ChooseMmaTiling(p);
  const cudaError_t error = DispatchMma(p.dtype, [&]<typename T>() {
    return tiling == kMma64 ? Launch<T, kMma64.head_dim>(target, tiling, args, shape)
                            : Launch<T, kMma128.head_dim>(target, tiling, args, shape);
  });
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "AttentionForward", __FILE__, __LINE__, absl::StrCat(p.queries, " queries")));
}

}  // namespace lycia::cuda
