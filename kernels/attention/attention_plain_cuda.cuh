// What the plain attention kernels share: which keys a query sees, products of rows with a tile of columns, and how a problem is launched.
//
// A block has eight warps, each with one row of the result (a query, or a key for dk and dv). The other side passes by in tiles of 32
// columns: lane i of a warp holds the product of its row with column i, summed over the features, which pass through shared memory 32 at a
// time. Then lanes are features, four each: a block makes 128 features of its rows, and more blocks the others.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_PLAIN_CUDA_CUH_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_PLAIN_CUDA_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/cuda/pack.cuh"
#include "kernels/elementwise/dropout.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {

inline constexpr int kPlainRows = 8;                              // of a block, a warp each
inline constexpr int kPlainTile = 32;                             // columns of a tile and features of a step
inline constexpr int kPlainOfLane = 4;                            // features
inline constexpr int kPlainFeatures = kPlainOfLane * kPlainTile;  // of a block
inline constexpr unsigned kPlainWarp = 0xffffffffu;

// T is const for inputs.
template <typename T>
struct PlainHeads {
  T* data = nullptr;
  std::int64_t sample_stride = 0, row_stride = 0, head_stride = 0;

  template <typename View>
  static PlainHeads Of(const View& view) {
    return {static_cast<T*>(view.data), view.sample_stride, view.row_stride, view.head_stride};
  }
  __device__ T* Row(std::int64_t sample, std::int64_t row, std::int64_t head) const {
    return data + sample * sample_stride + row * row_stride + head * head_stride;
  }
};

// The mask of a problem, its lists in device memory.
struct PlainMask {
  bool causal = false;
  int shift = 0;                          // first_query - first_key
  const std::int32_t* offsets = nullptr;  // [num_offsets], null: no packed sequences
  int num_offsets = 0;
  int block = 0;  // 0: no block mask
  const std::int32_t *first = nullptr, *key_blocks = nullptr;

  // [begin, end) of the sequence that holds a row, of `rows` without packed sequences.
  __device__ void Sequence(int row, int rows, int* begin, int* end) const {
    *begin = 0, *end = rows;
    for (int i = 0; i < num_offsets; ++i) {
      if (offsets[i] <= row) *begin = offsets[i];
      if (offsets[i] > row) {
        *end = offsets[i];
        return;
      }
    }
  }
  // Beside the sequence.
  __device__ bool Visible(int query, int key) const {
    if (causal && key > query + shift) return false;
    if (block == 0) return true;
    const int row = query / block, column = key / block;
    for (int i = first[row]; i < first[row + 1]; ++i) {
      if (key_blocks[i] == column) return true;
    }
    return false;
  }
};

struct PlainDropout {
  std::uint64_t threshold = 0;  // 0: none
  double keep = 1;
  RandomStream random;
  std::int64_t first_sample = 0, first_head = 0, total_heads = 0, length = 0, first_query = 0, first_key = 0;

  template <typename A>
  __device__ A Factor(std::int64_t sample, std::int64_t head, std::int64_t query, std::int64_t key) const {
    if (threshold == 0) return A(1);
    const std::int64_t row = (first_sample + sample) * total_heads + first_head + head;
    const std::int64_t index = (row * length + first_query + query) * length + first_key + key;
    return random.Bits(static_cast<std::uint64_t>(index)) >= threshold ? static_cast<A>(keep) : A(0);
  }
};

struct PlainShape {
  int queries = 0, keys = 0, heads = 0, heads_per_key = 1, head_dim = 0;
  double scale = 0;
  PlainMask mask;
  PlainDropout dropout;
};

template <typename A>
struct PlainShared {
  A columns[kPlainTile][kPlainTile + 1];  // one more, so that the rows of a column lie in different banks
  A rows[kPlainRows][kPlainTile];
};

// The product of the warp's row with the lane's column; zero beyond the counts. All threads of the block come here together.
template <typename T>
__device__ Arithmetic<T> PlainProduct(PlainShared<Arithmetic<T>>& shared, const T* rows, std::int64_t row_stride, int num_rows,
                                      const T* columns, std::int64_t column_stride, int num_columns, int head_dim) {
  using A = Arithmetic<T>;
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  A sum = 0;
  for (int begin = 0; begin < head_dim; begin += kPlainTile) {
    const int feature = begin + lane;
    __syncthreads();  // the step before this one has been read
    for (int c = warp; c < kPlainTile; c += kPlainRows) {
      shared.columns[c][lane] = c < num_columns && feature < head_dim ? Widen(columns[c * column_stride + feature]) : A(0);
    }
    shared.rows[warp][lane] = warp < num_rows && feature < head_dim ? Widen(rows[warp * row_stride + feature]) : A(0);
    __syncthreads();
#pragma unroll
    for (int f = 0; f < kPlainTile; ++f) sum += shared.rows[warp][f] * shared.columns[lane][f];
  }
  return sum;
}

template <typename A>
__device__ A PlainWarpSum(A value) {
  for (int distance = kPlainTile / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kPlainWarp, value, distance);
  return value;
}
template <typename A>
__device__ A PlainWarpMax(A value) {
  for (int distance = kPlainTile / 2; distance > 0; distance /= 2) {
    const A other = __shfl_xor_sync(kPlainWarp, value, distance);
    value = other > value ? other : value;
  }
  return value;
}

inline unsigned PlainFeatureBlocks(std::int64_t head_dim) {
  return static_cast<unsigned>((head_dim + kPlainFeatures - 1) / kPlainFeatures);
}

// The shape of a problem for the kernels; the lists of its mask go to the beginning of the stream's workspace, `taken` bytes of it. Fails
// the stream where that or a grid is too small.
inline PlainShape MakePlainShape(Stream& stream, const StreamTarget& target, const AttentionProblem& p, std::int64_t* taken) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30, kMostBlocks = 65535;  // of a grid's second and third dimension
  *taken = 0;
  if (p.queries > kMost || p.keys > kMost || p.head_dim > kMost || p.heads > kMostBlocks || p.samples > kMostBlocks) {
    stream.Fail(InvalidArgument("attention on CUDA: ", p.samples, " samples of ", p.queries, " queries, ", p.keys, " keys and ", p.heads,
                                " heads; a launch has at most ", kMostBlocks, " samples and heads, and 2^30 tokens: split the call"));
    return {};
  }
  const auto put = [&](std::span<const std::int32_t> list) -> const std::int32_t* {
    const auto bytes = static_cast<std::int64_t>(list.size_bytes());
    if (bytes == 0) return nullptr;
    if (*taken + bytes > kKernelWorkspaceBytes / 2) {
      stream.Fail(InvalidArgument("attention on CUDA: the lists of a mask have more than ", kKernelWorkspaceBytes / 2,
                                  " bytes; use larger blocks or fewer sequences a call"));
      return nullptr;
    }
    char* to = static_cast<char*>(target.kernel_workspace) + *taken;
    stream.Copy(to, list.data(), bytes);
    *taken += (bytes + 255) / 256 * 256;
    return reinterpret_cast<const std::int32_t*>(to);
  };
  const AttentionDropout& d = p.dropout;
  LYCIA_CHECK(d.rate >= 0 && d.rate < 1) << "dropout rate " << d.rate << " ";
  PlainShape shape{.queries = static_cast<int>(p.queries),
                   .keys = static_cast<int>(p.keys),
                   .heads = static_cast<int>(p.heads),
                   .heads_per_key = static_cast<int>(p.heads / p.kv_heads),
                   .head_dim = static_cast<int>(p.head_dim),
                   .scale = p.scale,
                   .mask = {.causal = p.mask == MaskKind::kCausal,
                            .shift = static_cast<int>(p.first_query - p.first_key),
                            .offsets = put(p.sequence_offsets),
                            .num_offsets = static_cast<int>(p.sequence_offsets.size()),
                            .block = static_cast<int>(p.blocks.block)},
                   .dropout = {.threshold = d.rate == 0 ? 0 : DropoutThreshold(d.rate),
                               .keep = 1 / (1 - d.rate),
                               .random = d.random,
                               .first_sample = d.first_sample,
                               .first_head = d.first_head,
                               .total_heads = d.total_heads,
                               .length = d.length,
                               .first_query = p.first_query,
                               .first_key = p.first_key}};
  if (p.blocks.block != 0) shape.mask.first = put(p.blocks.first), shape.mask.key_blocks = put(p.blocks.key_blocks);
  return shape;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_PLAIN_CUDA_CUH_
