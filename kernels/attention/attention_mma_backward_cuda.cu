// The attention backward on the tensor cores from sm_80 on, for 16-bit types (FlashAttention-2, Dao 2023, sec. 3.1.2, in two passes): p and
// dscores are computed again from log_sum_exp, once for dq, by queries, and once for dk and dv, by keys. So every sum has one owner and one
// order, without atomics and without a copy of dq in f32, for seven products where one pass has five.
//
//   delta = sum over features of dout out;  dscores = p (keep dropped(dout vᵀ) - delta)
//   dq = scale dscores k;  dk = scale dscoresᵀ q;  dv = keep dropped(p)ᵀ dout
//
// dq: a block has 64 queries, as the forward. dk and dv: a block has 64 keys of one key head, whose query heads follow each other, and
// passes over tiles of 64 queries (of 128 features: 32), scores transposed. p and dscores go from sums to operands in registers; each tile
// of the other side is copied while the products that do not need it run:
//
//   dq:         |  dout vᵀ   copy of the next v starts      q kᵀ, p, dscores, dq += dscores k   copy of the next k starts
//   dk and dv:  |  v doutᵀ   k qᵀ, p, dscores, dv += pᵀ dout   copy of the next dout starts   dk += dscoresᵀ q   copy of the next q starts
//
// Shared memory: four tiles, 32 KiB of 64 features, 64 KiB (dq) and 48.25 KiB of 128: two blocks and more fit a multiprocessor of sm_80,
// one of 8.6 for dq of 128. Registers of a thread: sums D / 2 (dq) or D, scores and dprobabilities 64 (of 128 features for keys: 32); with
// addresses and operands on their way 208 to 255, so that two blocks run.
// What is hidden and not copied: as in the forward (attention_mma_forward_cuda.cu).
//
// Bytes moved: 2 D (4 T + 4 S T / 64) a head twice, from the L2 cache. Operations: 14 T S D a head, on the visible part. Expected limit:
// shared memory, as in the forward; dropout adds five rounds of Philox a score to dq, and ten to dk and dv, whose neighbours are of
// different queries. Not yet run.
#include <cuda_runtime.h>

#include <numbers>

#include "kernels/attention/attention_mma.cuh"
#include "kernels/attention/attention_mma_cuda.h"
#include "kernels/attention/attention_mma_launch.h"
#include "kernels/cuda/dynamic_shared.cuh"
#include "kernels/cuda/exp2.cuh"

namespace lycia::cuda {
namespace {

constexpr float kLog2E = std::numbers::log2e_v<float>;

template <typename T>
struct MmaBackwardPointers {
  PlainHeads<const T> q, k, v, out, dout;
  PlainHeads<T> dq, dk, dv;
  const float* log_sum_exp;  // [B, H, T]
  float* delta;              // [B, H, T], of the first pass for the second
};

// log_sum_exp as an exponent of two; 0 of a query that sees no key, all of whose scores are -infinity.
__device__ __forceinline__ float ExponentOf(float log_sum_exp) { return log_sum_exp == -INFINITY ? 0 : log_sum_exp * kLog2E; }

// delta of the warp's 16 queries, stored and returned for rows g and g + 8.
template <typename T>
__device__ __forceinline__ void MakeDelta(const MmaBackwardPointers<T>& p, const PlainShape& s, int sample, int head, int first_query,
                                          int lane, float (&delta)[2]) {
  float* stored = p.delta + (std::int64_t{sample} * s.heads + head) * s.queries;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll 1
    for (int i = 0; i < kMmaRows / 2; ++i) {
      const int query = first_query + 8 * half + i;
      if (query >= s.queries) return;  // all lanes of the warp
      const T *out = p.out.Row(sample, query, head), *dout = p.dout.Row(sample, query, head);
      float sum = 0;
      for (int feature = lane; feature < s.head_dim; feature += kMmaLanes) {
        sum += Widen(out[feature]) * Widen(dout[feature]);
      }
      sum = PlainWarpSum(sum);
      if (i == lane / 4) delta[half] = sum;
      if (lane == 0) stored[query] = sum;
    }
  }
}

// Grid: (query tiles, H, B), the last queries first.
template <typename T, int kHeadDim>
__global__ void __launch_bounds__(128) MmaDqKernel(MmaBackwardPointers<T> p, PlainShape s, AttentionSight sight) {
  constexpr MmaTiling kTiling = kHeadDim == kMma64.head_dim ? kMma64 : kMma128;
  constexpr int kRows = kTiling.rows, kStep = kTiling.step, kScores = kStep / 2;
  static_assert(kTiling.threads() == 128);
  char* shared = DynamicShared();
  const MmaTile<kRows> q{shared}, dout{shared + kTiling.row_bytes()};
  const MmaTile<kStep> k{shared + 2 * kTiling.row_bytes()}, v{shared + 2 * kTiling.row_bytes() + kTiling.step_bytes()};
  const int warp = static_cast<int>(threadIdx.x) / kMmaLanes, lane = static_cast<int>(threadIdx.x) % kMmaLanes;
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows, row = warp * kMmaRows;
  const int head = static_cast<int>(blockIdx.y), key_head = head / s.heads_per_key, sample = static_cast<int>(blockIdx.z);
  const int query = first_query + row + lane / 4;  // and query + 8
  const T *keys = p.k.Row(sample, 0, key_head), *values = p.v.Row(sample, 0, key_head);
  const Interval seen = sight.KeysOfTile(first_query, kRows), shown[2] = {sight.KeysOf(query), sight.KeysOf(query + 8)};
  const float scale_log2 = static_cast<float>(s.scale) * kLog2E;
  const auto keep = static_cast<float>(s.dropout.keep);

  int key = sight.NextKeys(first_query, kRows, seen.begin / kStep * kStep, seen.end, kStep);
  CopyTile<kHeadDim>(dout, p.dout.Row(sample, 0, head), p.dout.row_stride, first_query, s.queries, s.head_dim);
  if (key < seen.end) CopyTile<kHeadDim>(v, values, p.v.row_stride, key, s.keys, s.head_dim);
  CommitCopies();
  CopyTile<kHeadDim>(q, p.q.Row(sample, 0, head), p.q.row_stride, first_query, s.queries, s.head_dim);
  if (key < seen.end) CopyTile<kHeadDim>(k, keys, p.k.row_stride, key, s.keys, s.head_dim);
  CommitCopies();

  float delta[2] = {0, 0}, exponents[2] = {0, 0};
  MakeDelta(p, s, sample, head, first_query + row, lane, delta);
  const float* log_sum_exp = p.log_sum_exp + (std::int64_t{sample} * s.heads + head) * s.queries;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (query + 8 * half < s.queries) exponents[half] = ExponentOf(log_sum_exp[query + 8 * half]);
  }
  float dq[kHeadDim / 2];
#pragma unroll
  for (int i = 0; i < kHeadDim / 2; ++i) dq[i] = 0;

  while (key < seen.end) {
    const int next = sight.NextKeys(first_query, kRows, key + kStep, seen.end, kStep), column = key + lane % 4 * 2;
    float scores[kScores], dprobabilities[kScores];
#pragma unroll
    for (int i = 0; i < kScores; ++i) scores[i] = dprobabilities[i] = 0;
    WaitCopies<1>();
    __syncthreads();  // v and dout are there
    AddScores<T, kHeadDim>(dprobabilities, dout, row, v, lane);
    WaitCopies<0>();
    __syncthreads();  // k and q are there; v has been read
    if (next < seen.end) CopyTile<kHeadDim>(v, values, p.v.row_stride, next, s.keys, s.head_dim);
    CommitCopies();
    AddScores<T, kHeadDim>(scores, q, row, k, lane);
    if (sight.Of(first_query, kRows, key, kStep) == Sight::kSome) {
      HideOutside(scores, shown, column, -INFINITY);
      if (sight.block != 0) {
        SetUnless(scores, ScoreBits<kScores>(query, column, [&](int i, int j) { return sight.InBlocks(i, j); }), -INFINITY);
      }
    }
    if (s.dropout.threshold != 0) {
      SetUnless(dprobabilities, KeptBits<kScores>(s.dropout, sample, head, query, column), 0);
#pragma unroll
      for (int i = 0; i < kScores; ++i) dprobabilities[i] *= keep;
    }
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const float probability = Exp2(scores[i] * scale_log2 - exponents[i / 2 % 2]);
      scores[i] = probability * (dprobabilities[i] - delta[i / 2 % 2]);
    }
    std::uint32_t dscores[kScores / 2];
    PackPairs<T>(scores, dscores);
    AddWeighted<T, kHeadDim>(dq, dscores, k, lane);
    __syncthreads();  // k has been read
    if (next < seen.end) CopyTile<kHeadDim>(k, keys, p.k.row_stride, next, s.keys, s.head_dim);
    CommitCopies();
    key = next;
  }
  WaitCopies<0>();
  __syncthreads();  // q is there even if nobody saw a key: it may be written over
  const auto scale = static_cast<float>(s.scale);
  const float factors[2] = {scale, scale};
  StoreRows<T, kHeadDim>(dq, factors, q, row, lane, p.dq.Row(sample, first_query + row, head), p.dq.row_stride,
                         s.queries - first_query - row, s.head_dim);
}

// Grid: (key tiles, G, B), the first keys first, which most queries see under a causal mask.
template <typename T, int kHeadDim>
__global__ void __launch_bounds__(128) MmaDkDvKernel(MmaBackwardPointers<T> p, PlainShape s, AttentionSight sight) {
  constexpr MmaTiling kTiling = kHeadDim == kMmaKeys64.head_dim ? kMmaKeys64 : kMmaKeys128;
  constexpr int kRows = kTiling.rows, kStep = kTiling.step, kScores = kStep / 2;
  static_assert(kTiling.threads() == 128);
  char* shared = DynamicShared();
  const MmaTile<kRows> k{shared}, v{shared + kTiling.row_bytes()};
  const MmaTile<kStep> q{shared + 2 * kTiling.row_bytes()}, dout{shared + 2 * kTiling.row_bytes() + kTiling.step_bytes()};
  auto* const log_sum_exp = reinterpret_cast<float*>(shared + 2 * kTiling.row_bytes() + 2 * kTiling.step_bytes());
  float* const delta = log_sum_exp + kStep;
  const int warp = static_cast<int>(threadIdx.x) / kMmaLanes, lane = static_cast<int>(threadIdx.x) % kMmaLanes;
  const int first_key = static_cast<int>(blockIdx.x) * kRows, row = warp * kMmaRows;
  const int key_head = static_cast<int>(blockIdx.y), sample = static_cast<int>(blockIdx.z);
  const int key = first_key + row + lane / 4;  // and key + 8
  const Interval seen = sight.QueriesOfTile(first_key, kRows), shown[2] = {sight.QueriesOf(key), sight.QueriesOf(key + 8)};
  const float scale_log2 = static_cast<float>(s.scale) * kLog2E;
  const auto keep = static_cast<float>(s.dropout.keep);

  // The tiles of queries of all heads that read the key head, in order.
  const int end_head = (key_head + 1) * s.heads_per_key;
  const int first_tile = sight.NextQueries(first_key, kRows, seen.begin / kStep * kStep, seen.end, kStep);
  int head = first_tile < seen.end ? key_head * s.heads_per_key : end_head, query = first_tile;
  const auto copy_dout = [&](int of_head, int first_query) {
    if (of_head < end_head) {
      CopyTile<kHeadDim>(dout, p.dout.Row(sample, 0, of_head), p.dout.row_stride, first_query, s.queries, s.head_dim);
    }
    CommitCopies();
  };
  const auto copy_q = [&](int of_head, int first_query) {
    if (of_head < end_head) {
      CopyTile<kHeadDim>(q, p.q.Row(sample, 0, of_head), p.q.row_stride, first_query, s.queries, s.head_dim);
      const std::int64_t rows = (std::int64_t{sample} * s.heads + of_head) * s.queries;
      for (int i = static_cast<int>(threadIdx.x); i < kStep; i += static_cast<int>(blockDim.x)) {
        const bool present = first_query + i < s.queries;
        const std::int64_t at = rows + (present ? first_query + i : 0);
        CopyAsync<4>(log_sum_exp + i, p.log_sum_exp + at, present);
        CopyAsync<4>(delta + i, p.delta + at, present);
      }
    }
    CommitCopies();
  };
  CopyTile<kHeadDim>(v, p.v.Row(sample, 0, key_head), p.v.row_stride, first_key, s.keys, s.head_dim);
  copy_dout(head, query);
  CopyTile<kHeadDim>(k, p.k.Row(sample, 0, key_head), p.k.row_stride, first_key, s.keys, s.head_dim);
  copy_q(head, query);

  float dk[kHeadDim / 2], dv[kHeadDim / 2];
#pragma unroll
  for (int i = 0; i < kHeadDim / 2; ++i) dk[i] = dv[i] = 0;
  while (head < end_head) {
    int next_head = head, next = sight.NextQueries(first_key, kRows, query + kStep, seen.end, kStep);
    if (next >= seen.end) ++next_head, next = first_tile;
    const int column = query + lane % 4 * 2;
    float scores[kScores], dprobabilities[kScores];
#pragma unroll
    for (int i = 0; i < kScores; ++i) scores[i] = dprobabilities[i] = 0;
    WaitCopies<1>();
    __syncthreads();  // dout and v are there; q has been read
    AddScores<T, kHeadDim>(dprobabilities, v, row, dout, lane);
    WaitCopies<0>();
    __syncthreads();  // q, k, log_sum_exp and delta are there
    AddScores<T, kHeadDim>(scores, k, row, q, lane);
    if (sight.Of(query, kStep, first_key, kRows) == Sight::kSome) {
      HideOutside(scores, shown, column, -INFINITY);
      if (sight.block != 0) {
        SetUnless(scores, ScoreBits<kScores>(key, column, [&](int j, int i) { return sight.InBlocks(i, j); }), -INFINITY);
      }
    }
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      scores[i] = Exp2(scores[i] * scale_log2 - ExponentOf(log_sum_exp[i / 4 * 8 + lane % 4 * 2 + i % 2]));
    }
    // Dropped: dprobabilities are zero, and the probabilities that go into dv, but not those of dscores.
    std::uint32_t probabilities[kScores / 2], dscores[kScores / 2], kept = 0xffffffffu;
    if (s.dropout.threshold != 0) {
      kept = ScoreBits<kScores>(key, column, [&](int j, int i) { return s.dropout.Factor<float>(sample, head, i, j) != 0; });
      SetUnless(dprobabilities, kept, 0);
    }
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      dprobabilities[i] = scores[i] * (keep * dprobabilities[i] - delta[i / 4 * 8 + lane % 4 * 2 + i % 2]);
    }
    SetUnless(scores, kept, 0);
    PackPairs<T>(scores, probabilities);
    PackPairs<T>(dprobabilities, dscores);
    AddWeighted<T, kHeadDim>(dv, probabilities, dout, lane);
    __syncthreads();  // dout has been read
    copy_dout(next_head, next);
    AddWeighted<T, kHeadDim>(dk, dscores, q, lane);
    __syncthreads();  // q, log_sum_exp and delta have been read
    copy_q(next_head, next);
    head = next_head, query = next;
  }
  WaitCopies<0>();
  __syncthreads();  // k and v are there even if no query saw a key: they may be written over
  const auto scale = static_cast<float>(s.scale);
  const float of_dk[2] = {scale, scale}, of_dv[2] = {keep, keep};
  StoreRows<T, kHeadDim>(dk, of_dk, k, row, lane, p.dk.Row(sample, first_key + row, key_head), p.dk.row_stride, s.keys - first_key - row,
                         s.head_dim);
  StoreRows<T, kHeadDim>(dv, of_dv, v, row, lane, p.dv.Row(sample, first_key + row, key_head), p.dv.row_stride, s.keys - first_key - row,
                         s.head_dim);
}

template <typename T>
using BackwardKernel = void (*)(MmaBackwardPointers<T>, PlainShape, AttentionSight);

template <typename T>
cudaError_t LaunchOver(const StreamTarget& target, BackwardKernel<T> kernel, const MmaTiling& tiling, std::int64_t rows, std::int64_t heads,
                       std::int64_t samples, const MmaBackwardPointers<T>& pointers, const PlainShape& shape) {
  if (rows == 0) return cudaSuccess;
  if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, tiling.backward_bytes());
      error != cudaSuccess) {
    return error;
  }
  cudaLaunchConfig_t config = LaunchConfig(
      target,
      dim3(static_cast<unsigned>((rows + tiling.rows - 1) / tiling.rows), static_cast<unsigned>(heads), static_cast<unsigned>(samples)),
      dim3(static_cast<unsigned>(tiling.threads())));
  config.dynamicSmemBytes = static_cast<std::size_t>(tiling.backward_bytes());
  return cudaLaunchKernelEx(&config, kernel, pointers, shape, SightOf(shape));
}

template <typename T>
cudaError_t Launch(const StreamTarget& target, const AttentionBackwardArgs& args, const PlainShape& shape) {
  const AttentionProblem& p = args.problem;
  const MmaTiling of_queries = ChooseMmaTiling(p), of_keys = ChooseMmaKeysTiling(p);
  const MmaBackwardPointers<T> pointers{.q = PlainHeads<const T>::Of(args.q),
                                        .k = PlainHeads<const T>::Of(args.k),
                                        .v = PlainHeads<const T>::Of(args.v),
                                        .out = PlainHeads<const T>::Of(args.out),
                                        .dout = PlainHeads<const T>::Of(args.dout),
                                        .dq = PlainHeads<T>::Of(args.dq),
                                        .dk = PlainHeads<T>::Of(args.dk),
                                        .dv = PlainHeads<T>::Of(args.dv),
                                        .log_sum_exp = args.log_sum_exp.as<float>(),
                                        .delta = static_cast<float*>(args.scratch.data)};
  const bool small = of_queries == kMma64;
  const BackwardKernel<T> dq = small ? MmaDqKernel<T, kMma64.head_dim> : MmaDqKernel<T, kMma128.head_dim>,
                          dkdv = small ? MmaDkDvKernel<T, kMma64.head_dim> : MmaDkDvKernel<T, kMma128.head_dim>;
  const cudaError_t error = LaunchOver<T>(target, dq, of_queries, p.queries, p.heads, p.samples, pointers, shape);
  return error != cudaSuccess ? error : LaunchOver<T>(target, dkdv, of_keys, p.keys, p.kv_heads, p.samples, pointers, shape);
}

}  // namespace

void MmaAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  const AttentionProblem& p = args.problem;
  LYCIA_CHECK(args.scratch.bytes() >= MmaBackwardScratchBytes(p)) << "scratch of " << args.scratch.bytes() << " bytes ";
  const StreamTarget target = TargetOf(stream);
  std::int64_t taken = 0;
  const PlainShape shape = MakePlainShape(stream, target, p, &taken);
  if (!stream.ok() || p.samples == 0 || p.heads == 0) return;
  const cudaError_t error = DispatchMma(p.dtype, [&]<typename T>() { return Launch<T>(target, args, shape); });
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "AttentionBackward", __FILE__, __LINE__, absl::StrCat(p.queries, " queries")));
}

}  // namespace lycia::cuda
