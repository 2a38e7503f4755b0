// The plain attention forward on CUDA: online softmax over tiles of 32 keys, eight queries of one head a block, no tensor cores. Every
// block of 128 features computes the scores again, so that heads of any size keep their sums in registers.
//
// Bytes moved: keys and values once for eight queries, from the L2 cache. Operations: 4 B H T S D for D <= 128, on the visible part. Bound
// by shared memory, two loads a multiply-add; share of that limit: not yet run.
#include <cuda_runtime.h>

#include <limits>

#include "kernels/attention/attention_plain_cuda.cuh"
#include "kernels/attention/attention_plain_cuda.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct ForwardPointers {
  PlainHeads<const T> q, k, v;
  PlainHeads<T> out;
  Arithmetic<T>* log_sum_exp;  // [B, H, T]
};

// Grid: (query tiles x feature blocks, H, B) of (32, 8) threads.
template <typename T>
__global__ void __launch_bounds__(kPlainRows* kPlainTile) PlainForwardKernel(ForwardPointers<T> p, PlainShape s, int query_tiles) {
  using A = Arithmetic<T>;
  using std::exp;
  using std::log;
  constexpr A kNone = -std::numeric_limits<A>::infinity();
  __shared__ PlainShared<A> shared;
  __shared__ A probabilities[kPlainRows][kPlainTile];
  __shared__ bool visible[kPlainRows][kPlainTile];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int tile = static_cast<int>(blockIdx.x) % query_tiles, features = static_cast<int>(blockIdx.x) / query_tiles * kPlainFeatures;
  const int head = static_cast<int>(blockIdx.y), key_head = head / s.heads_per_key, sample = static_cast<int>(blockIdx.z);
  const int first_query = tile * kPlainRows, query = first_query + warp;
  const int num_rows = s.queries - first_query < kPlainRows ? s.queries - first_query : kPlainRows;
  int begin = 0, end = s.keys;  // of the warp's sequence
  s.mask.Sequence(query, s.keys, &begin, &end);
  const int seen = s.mask.causal ? first_query + num_rows + s.mask.shift : s.keys;  // no query of the block sees more
  const int last = seen < s.keys ? seen : s.keys;

  A largest = kNone, sum = 0, out[kPlainOfLane] = {};
  for (int first_key = 0; first_key < last; first_key += kPlainTile) {
    const int num_keys = s.keys - first_key < kPlainTile ? s.keys - first_key : kPlainTile, key = first_key + lane;
    const A product = PlainProduct(shared, p.q.Row(sample, first_query, head), p.q.row_stride, num_rows,
                                   p.k.Row(sample, first_key, key_head), p.k.row_stride, num_keys, s.head_dim);
    const bool shown = warp < num_rows && lane < num_keys && key >= begin && key < end && s.mask.Visible(query, key);
    const A score = shown ? static_cast<A>(s.scale) * product : kNone;
    const A tile_largest = PlainWarpMax(score), new_largest = tile_largest > largest ? tile_largest : largest;
    const A shift = new_largest == kNone ? A(0) : new_largest;
    const A shrink = exp(largest - shift), probability = shown ? exp(score - shift) : A(0);
    largest = new_largest;
    sum = sum * shrink + PlainWarpSum(probability);
    probabilities[warp][lane] = shown ? probability * s.dropout.Factor<A>(sample, head, query, key) : A(0);
    visible[warp][lane] = shown;
    __syncwarp();
    for (int i = 0; i < kPlainOfLane; ++i) out[i] *= shrink;
    for (int j = 0; j < num_keys; ++j) {
      if (!visible[warp][j]) continue;  // what nobody sees may be NaN
      const T* value = p.v.Row(sample, first_key + j, key_head);
      for (int i = 0; i < kPlainOfLane; ++i) {
        const int feature = features + i * kPlainTile + lane;
        if (feature < s.head_dim) out[i] += probabilities[warp][j] * Widen(value[feature]);
      }
    }
    __syncwarp();
  }
  if (warp >= num_rows) return;
  const bool none = sum == 0;  // of a query that sees no key; a NaN among the scores is in the sum
  T* row = p.out.Row(sample, query, head);
  for (int i = 0; i < kPlainOfLane; ++i) {
    const int feature = features + i * kPlainTile + lane;
    if (feature < s.head_dim) row[feature] = Round<T>(none ? A(0) : out[i] / sum);
  }
  if (features == 0 && lane == 0) {
    p.log_sum_exp[(std::int64_t{sample} * s.heads + head) * s.queries + query] = none ? kNone : largest + log(sum);
  }
}

}  // namespace

void PlainAttentionForward(Stream& stream, const AttentionForwardArgs& args) {
  const AttentionProblem& p = args.problem;
  const StreamTarget target = TargetOf(stream);
  std::int64_t taken = 0;
  const PlainShape shape = MakePlainShape(stream, target, p, &taken);
  if (!stream.ok() || p.samples == 0 || p.heads == 0 || p.queries == 0) return;
  const int query_tiles = static_cast<int>((p.queries + kPlainRows - 1) / kPlainRows);
  const cudaLaunchConfig_t config = LaunchConfig(target,
                                                 dim3(static_cast<unsigned>(query_tiles) * PlainFeatureBlocks(p.head_dim),
                                                      static_cast<unsigned>(p.heads), static_cast<unsigned>(p.samples)),
                                                 dim3(kPlainTile, kPlainRows));
  DispatchAnyStored(p.dtype, [&]<typename T>() {
    const ForwardPointers<T> pointers{.q = PlainHeads<const T>::Of(args.q),
                                      .k = PlainHeads<const T>::Of(args.k),
                                      .v = PlainHeads<const T>::Of(args.v),
                                      .out = PlainHeads<T>::Of(args.out),
                                      .log_sum_exp = args.log_sum_exp.as<Arithmetic<T>>()};
    const cudaError_t error = cudaLaunchKernelEx(&config, PlainForwardKernel<T>, pointers, shape, query_tiles);
    if (error != cudaSuccess) stream.Fail(ToStatus(error, "AttentionForward", __FILE__, __LINE__, absl::StrCat(p.queries, " queries")));
  });
}

}  // namespace lycia::cuda
