// The plain attention backward on CUDA: p and dscores are computed again from log_sum_exp (FlashAttention-2, Dao 2023, sec. 3.1.2), once
// for dq, by queries, and once for dk and dv, by keys, so that every sum has one owner and one order: no atomics.
//
//   delta = sum over features of dout out;  dscores = p (dropout factor * dout vᵀ - delta)
//   dq = scale dscores k;  dk = scale dscoresᵀ q;  dv = (dropout factor * p)ᵀ dout
//
// Bytes moved and operations: as the forward (attention_plain_forward_cuda.cu), 14 B H T S D on the visible part for D <= 128. Share of the
// limit of shared memory: not yet run.
#include <cuda_runtime.h>

#include "kernels/attention/attention_plain_cuda.cuh"
#include "kernels/attention/attention_plain_cuda.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct BackwardPointers {
  PlainHeads<const T> q, k, v, out, dout;
  PlainHeads<T> dq, dk, dv;
  const Arithmetic<T>* log_sum_exp;  // [B, H, T]
  Arithmetic<T>* delta;              // [B, H, T]
};

// What one pair of a query and a key adds: to dv times dout, and to dq and dk.
template <typename A>
struct Pair {
  A probability, dscore;
};
// score and dprobability: the products of the pair.
template <typename A>
__device__ Pair<A> PairOf(const PlainShape& s, int sample, int head, int query, int key, A score, A dprobability, const A* log_sum_exp,
                          const A* delta) {
  using std::exp;
  const std::int64_t row = (std::int64_t{sample} * s.heads + head) * s.queries + query;
  const A p = exp(static_cast<A>(s.scale) * score - log_sum_exp[row]), factor = s.dropout.Factor<A>(sample, head, query, key);
  return {p * factor, p * (factor * dprobability - delta[row])};
}

// Grid: (query tiles, H, B) of (32, 8) threads.
template <typename T>
__global__ void __launch_bounds__(kPlainRows* kPlainTile) PlainDeltaKernel(BackwardPointers<T> p, PlainShape s) {
  using A = Arithmetic<T>;
  const int query = static_cast<int>(blockIdx.x) * kPlainRows + static_cast<int>(threadIdx.y), lane = static_cast<int>(threadIdx.x);
  const int head = static_cast<int>(blockIdx.y), sample = static_cast<int>(blockIdx.z);
  if (query >= s.queries) return;  // all lanes of a warp
  const T *out = p.out.Row(sample, query, head), *dout = p.dout.Row(sample, query, head);
  A sum = 0;
  for (int feature = lane; feature < s.head_dim; feature += kPlainTile) {
    sum += Widen(out[feature]) * Widen(dout[feature]);
  }
  sum = PlainWarpSum(sum);
  if (lane == 0) p.delta[(std::int64_t{sample} * s.heads + head) * s.queries + query] = sum;
}

// Grid: (query tiles x feature blocks, H, B) of (32, 8) threads.
template <typename T>
__global__ void __launch_bounds__(kPlainRows* kPlainTile) PlainDqKernel(BackwardPointers<T> p, PlainShape s, int query_tiles) {
  using A = Arithmetic<T>;
  __shared__ PlainShared<A> shared;
  __shared__ A dscores[kPlainRows][kPlainTile];
  __shared__ bool visible[kPlainRows][kPlainTile];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int tile = static_cast<int>(blockIdx.x) % query_tiles, features = static_cast<int>(blockIdx.x) / query_tiles * kPlainFeatures;
  const int head = static_cast<int>(blockIdx.y), key_head = head / s.heads_per_key, sample = static_cast<int>(blockIdx.z);
  const int first_query = tile * kPlainRows, query = first_query + warp;
  const int num_rows = s.queries - first_query < kPlainRows ? s.queries - first_query : kPlainRows;
  int begin = 0, end = s.keys;
  s.mask.Sequence(query, s.keys, &begin, &end);
  const int seen = s.mask.causal ? first_query + num_rows + s.mask.shift : s.keys;
  const int last = seen < s.keys ? seen : s.keys;

  A dq[kPlainOfLane] = {};
  for (int first_key = 0; first_key < last; first_key += kPlainTile) {
    const int num_keys = s.keys - first_key < kPlainTile ? s.keys - first_key : kPlainTile, key = first_key + lane;
    const A score = PlainProduct(shared, p.q.Row(sample, first_query, head), p.q.row_stride, num_rows, p.k.Row(sample, first_key, key_head),
                                 p.k.row_stride, num_keys, s.head_dim);
    const A dprobability = PlainProduct(shared, p.dout.Row(sample, first_query, head), p.dout.row_stride, num_rows,
                                        p.v.Row(sample, first_key, key_head), p.v.row_stride, num_keys, s.head_dim);
    const bool shown = warp < num_rows && lane < num_keys && key >= begin && key < end && s.mask.Visible(query, key);
    visible[warp][lane] = shown;
    if (shown) dscores[warp][lane] = PairOf<A>(s, sample, head, query, key, score, dprobability, p.log_sum_exp, p.delta).dscore;
    __syncwarp();
    for (int j = 0; j < num_keys; ++j) {
      if (!visible[warp][j]) continue;
      const T* row = p.k.Row(sample, first_key + j, key_head);
      for (int i = 0; i < kPlainOfLane; ++i) {
        const int feature = features + i * kPlainTile + lane;
        if (feature < s.head_dim) dq[i] += dscores[warp][j] * Widen(row[feature]);
      }
    }
    __syncwarp();
  }
  if (warp >= num_rows) return;
  T* row = p.dq.Row(sample, query, head);
  for (int i = 0; i < kPlainOfLane; ++i) {
    const int feature = features + i * kPlainTile + lane;
    if (feature < s.head_dim) row[feature] = Round<T>(static_cast<A>(s.scale) * dq[i]);
  }
}

// Grid: (key tiles x feature blocks, G, B) of (32, 8) threads. The query heads that read a key head follow each other.
template <typename T>
__global__ void __launch_bounds__(kPlainRows* kPlainTile) PlainDkDvKernel(BackwardPointers<T> p, PlainShape s, int key_tiles) {
  using A = Arithmetic<T>;
  __shared__ PlainShared<A> shared;
  __shared__ Pair<A> pairs[kPlainRows][kPlainTile];
  __shared__ bool visible[kPlainRows][kPlainTile];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int tile = static_cast<int>(blockIdx.x) % key_tiles, features = static_cast<int>(blockIdx.x) / key_tiles * kPlainFeatures;
  const int key_head = static_cast<int>(blockIdx.y), sample = static_cast<int>(blockIdx.z);
  const int first_key = tile * kPlainRows, key = first_key + warp;
  const int num_rows = s.keys - first_key < kPlainRows ? s.keys - first_key : kPlainRows;
  int begin = 0, end = s.queries;
  s.mask.Sequence(key, s.queries, &begin, &end);
  const int diagonal = first_key - s.mask.shift;  // no query before it sees a key of the block
  const int start = s.mask.causal && diagonal > 0 ? diagonal : 0;

  A dk[kPlainOfLane] = {}, dv[kPlainOfLane] = {};
  for (int head = key_head * s.heads_per_key; head < (key_head + 1) * s.heads_per_key; ++head) {
    for (int first_query = start; first_query < s.queries; first_query += kPlainTile) {
      const int num_queries = s.queries - first_query < kPlainTile ? s.queries - first_query : kPlainTile, query = first_query + lane;
      const A score = PlainProduct(shared, p.k.Row(sample, first_key, key_head), p.k.row_stride, num_rows,
                                   p.q.Row(sample, first_query, head), p.q.row_stride, num_queries, s.head_dim);
      const A dprobability = PlainProduct(shared, p.v.Row(sample, first_key, key_head), p.v.row_stride, num_rows,
                                          p.dout.Row(sample, first_query, head), p.dout.row_stride, num_queries, s.head_dim);
      const bool shown = warp < num_rows && lane < num_queries && query >= begin && query < end && s.mask.Visible(query, key);
      visible[warp][lane] = shown;
      if (shown) pairs[warp][lane] = PairOf<A>(s, sample, head, query, key, score, dprobability, p.log_sum_exp, p.delta);
      __syncwarp();
#pragma unroll 1  // unrolled, the addresses of its rows do not fit the registers
      for (int j = 0; j < num_queries; ++j) {
        if (!visible[warp][j]) continue;
        const T *q = p.q.Row(sample, first_query + j, head), *dout = p.dout.Row(sample, first_query + j, head);
        for (int i = 0; i < kPlainOfLane; ++i) {
          const int feature = features + i * kPlainTile + lane;
          if (feature >= s.head_dim) continue;
          dk[i] += pairs[warp][j].dscore * Widen(q[feature]);
          dv[i] += pairs[warp][j].probability * Widen(dout[feature]);
        }
      }
      __syncwarp();
    }
  }
  if (warp >= num_rows) return;
  T *dk_row = p.dk.Row(sample, key, key_head), *dv_row = p.dv.Row(sample, key, key_head);
  for (int i = 0; i < kPlainOfLane; ++i) {
    const int feature = features + i * kPlainTile + lane;
    if (feature >= s.head_dim) continue;
    dk_row[feature] = Round<T>(static_cast<A>(s.scale) * dk[i]);
    dv_row[feature] = Round<T>(dv[i]);
  }
}

template <typename T>
cudaError_t Launch(const StreamTarget& target, const AttentionProblem& p, const BackwardPointers<T>& pointers, const PlainShape& shape) {
  const auto grid = [&](std::int64_t blocks, std::int64_t heads) {
    return LaunchConfig(target, dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(heads), static_cast<unsigned>(p.samples)),
                        dim3(kPlainTile, kPlainRows));
  };
  const auto tiles = [](std::int64_t rows) { return static_cast<int>((rows + kPlainRows - 1) / kPlainRows); };
  const std::int64_t chunks = PlainFeatureBlocks(p.head_dim);
  cudaError_t error = cudaSuccess;
  if (p.queries > 0) {
    const cudaLaunchConfig_t delta = grid(tiles(p.queries), p.heads), dq = grid(tiles(p.queries) * chunks, p.heads);
    error = cudaLaunchKernelEx(&delta, PlainDeltaKernel<T>, pointers, shape);
    if (error == cudaSuccess) error = cudaLaunchKernelEx(&dq, PlainDqKernel<T>, pointers, shape, tiles(p.queries));
  }
  const cudaLaunchConfig_t dkdv = grid(tiles(p.keys) * chunks, p.kv_heads);
  if (error == cudaSuccess && p.keys > 0) error = cudaLaunchKernelEx(&dkdv, PlainDkDvKernel<T>, pointers, shape, tiles(p.keys));
  return error;
}

}  // namespace

void PlainAttentionBackward(Stream& stream, const AttentionBackwardArgs& args) {
  const AttentionProblem& p = args.problem;
  const StreamTarget target = TargetOf(stream);
  std::int64_t taken = 0;
  const PlainShape shape = MakePlainShape(stream, target, p, &taken);
  if (!stream.ok() || p.samples == 0 || p.heads == 0) return;
  DispatchAnyStored(p.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const std::int64_t rows = p.samples * p.heads * p.queries,
                       most = (kKernelWorkspaceBytes - taken) / static_cast<std::int64_t>(sizeof(A));
    if (rows > most) {
      return stream.Fail(InvalidArgument("attention backward on CUDA: ", p.samples, " samples x ", p.heads, " heads x ", p.queries,
                                         " queries are more than ", most, " rows; use fewer samples a micro-batch"));
    }
    const BackwardPointers<T> pointers{.q = PlainHeads<const T>::Of(args.q),
                                       .k = PlainHeads<const T>::Of(args.k),
                                       .v = PlainHeads<const T>::Of(args.v),
                                       .out = PlainHeads<const T>::Of(args.out),
                                       .dout = PlainHeads<const T>::Of(args.dout),
                                       .dq = PlainHeads<T>::Of(args.dq),
                                       .dk = PlainHeads<T>::Of(args.dk),
                                       .dv = PlainHeads<T>::Of(args.dv),
                                       .log_sum_exp = args.log_sum_exp.as<A>(),
                                       .delta = reinterpret_cast<A*>(static_cast<char*>(target.kernel_workspace) + taken)};
    const cudaError_t error = Launch(target, p, pointers, shape);
    if (error != cudaSuccess) stream.Fail(ToStatus(error, "AttentionBackward", __FILE__, __LINE__, absl::StrCat(p.queries, " queries")));
  });
}

}  // namespace lycia::cuda
