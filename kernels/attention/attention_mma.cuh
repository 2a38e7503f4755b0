// What the attention kernels for the tensor cores of sm_80 share: tiles of heads to shared memory and back, the two kinds of products, and
// what is hidden or dropped of a tile of scores. Device code.
//
// A warp has 16 rows. Of a tile of scores a thread holds scores[4 j + e], e = 0 ... 3: columns 8 j + 2 t + e % 2 of row g + e / 2 * 8, with
// g = lane / 4 and t = lane % 4 (mma_fragment.h); results lie likewise.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_CUH_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/attention/attention_plain_cuda.cuh"
#include "kernels/attention/attention_sight.h"
#include "kernels/cuda/copy_async.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/pair.cuh"

namespace lycia::cuda {

inline constexpr int kMmaPieceElements = kPieceBytes / 2;  // of one copy

// The types of RejectMma: f.template operator()<BFloat16>() or <Float16>().
template <typename F>
decltype(auto) DispatchMma(DType dtype, F&& f) {
  if (dtype == DType::kF16) return f.template operator()<Float16>();
  LYCIA_CHECK(dtype == DType::kBF16) << "dtype " << Name(dtype) << " is not bf16 or f16 ";
  return f.template operator()<BFloat16>();
}

inline AttentionSight SightOf(const PlainShape& s) {
  return {.queries = s.queries,
          .keys = s.keys,
          .causal = s.mask.causal,
          .shift = s.mask.shift,
          .offsets = s.mask.offsets,
          .num_offsets = s.mask.num_offsets,
          .block = s.mask.block,
          .first = s.mask.first,
          .key_blocks = s.mask.key_blocks};
}

// Queues the copies of rows first ... first + kRows - 1 of a head; rows from `rows` and features from `head_dim` on are zeros. All threads
// of the block together.
template <int kHeadDim, int kRows, typename T>
__device__ __forceinline__ void CopyTile(const MmaTile<kRows>& tile, const T* head, std::int64_t row_stride, int first, int rows,
                                         int head_dim) {
  constexpr int kOfRow = kHeadDim / kMmaPieceElements;
#pragma unroll 4
  for (int piece = static_cast<int>(threadIdx.x); piece < kRows * kOfRow; piece += static_cast<int>(blockDim.x)) {
    const int row = piece / kOfRow, column = piece % kOfRow * kMmaPieceElements;
    const bool present = first + row < rows && column < head_dim;
    CopyAsync<kPieceBytes>(tile.Piece(row, column), head + (present ? (first + row) * row_stride + column : 0), present);
  }
}

// The 16 rows of a warp, scaled, rounded, and written by way of the rows of a tile which only this warp uses any more.
template <typename T, int kHeadDim, int kRows>
__device__ __forceinline__ void StoreRows(const float (&sums)[kHeadDim / 2], const float (&factors)[2], const MmaTile<kRows>& tile, int row,
                                          int lane, T* to, std::int64_t row_stride, int rows, int head_dim) {
  constexpr int kOfRow = kHeadDim / kMmaPieceElements;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < kHeadDim / kMmaColumns; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      char* pair = tile.Piece(row + lane / 4 + 8 * half, j * kMmaColumns) + lane % 4 * 4;
      *reinterpret_cast<std::uint32_t*>(pair) =
          PackPair<T>(sums[4 * j + 2 * half] * factors[half], sums[4 * j + 2 * half + 1] * factors[half]);
    }
  }
  __syncwarp();
#pragma unroll 4
  for (int piece = lane; piece < kMmaRows * kOfRow; piece += kMmaLanes) {
    const int of = piece / kOfRow, column = piece % kOfRow * kMmaPieceElements;
    if (of < rows && column < head_dim) {
      *reinterpret_cast<uint4*>(to + of * row_stride + column) = *reinterpret_cast<const uint4*>(tile.Piece(row + of, column));
    }
  }
}

// scores += a bᵀ: 16 rows of a from `row` on, all of b, summed over the features.
template <typename T, int kHeadDim, int kRows, int kStep>
__device__ __forceinline__ void AddScores(float (&scores)[kStep / 2], const MmaTile<kRows>& a, int row, const MmaTile<kStep>& b, int lane) {
#pragma unroll
  for (int k = 0; k < kHeadDim; k += kMmaDepth) {
    const OperandA left = a.A(lane, row, k);
#pragma unroll
    for (int n = 0; n < kStep; n += 2 * kMmaColumns) {
      OperandB right[2];
      b.B(right, lane, n, k);
      MultiplyAdd<T>(scores + n / 2, left, right[0]);
      MultiplyAdd<T>(scores + n / 2 + 4, left, right[1]);
    }
  }
}

// sums += weights b: weights are scores packed by twos, summed over the rows of b.
template <typename T, int kHeadDim, int kStep>
__device__ __forceinline__ void AddWeighted(float (&sums)[kHeadDim / 2], const std::uint32_t (&weights)[kStep / 4], const MmaTile<kStep>& b,
                                            int lane) {
#pragma unroll
  for (int k = 0; k < kStep; k += kMmaDepth) {
    const OperandA left{{weights[k / 4], weights[k / 4 + 1], weights[k / 4 + 2], weights[k / 4 + 3]}};
#pragma unroll
    for (int n = 0; n < kHeadDim; n += 2 * kMmaColumns) {
      OperandB right[2];
      b.BTransposed(right, lane, k, n);
      MultiplyAdd<T>(sums + n / 2, left, right[0]);
      MultiplyAdd<T>(sums + n / 2 + 4, left, right[1]);
    }
  }
}

// scores = value where the interval of their row does not hold their column. first: the thread's first column.
template <int kScores>
__device__ __forceinline__ void HideOutside(float (&scores)[kScores], const Interval (&shown)[2], int first, float value) {
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    const Interval& row = shown[i / 2 % 2];
    const auto at = static_cast<unsigned>(first + i / 4 * 8 + i % 2 - row.begin);  // one comparison: below begin it is large
    if (at >= static_cast<unsigned>(row.end - row.begin)) scores[i] = value;
  }
}

// Bit i: test(row, column) of score i, in a loop so that a long test stands once in the code; then the scores whose bit is not set.
template <int kScores, typename Test>
__device__ __forceinline__ std::uint32_t ScoreBits(int row, int first, Test&& test) {
  static_assert(kScores <= 32);
  std::uint32_t bits = 0;
#pragma unroll 1
  for (int i = 0; i < kScores; ++i) bits |= static_cast<std::uint32_t>(test(row + i / 2 % 2 * 8, first + i / 4 * 8 + i % 2)) << i;
  return bits;
}
template <int kScores>
__device__ __forceinline__ void SetUnless(float (&scores)[kScores], std::uint32_t bits, float value) {
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    if ((bits >> i & 1u) == 0) scores[i] = value;
  }
}

// Bit i: the dropout keeps score i, of rows of queries and columns of keys. Two neighbours mostly share a block of random numbers.
template <int kScores>
__device__ __forceinline__ std::uint32_t KeptBits(const PlainDropout& d, int sample, int head, int query, int first_key) {
  static_assert(kScores <= 32);
  std::uint32_t bits = 0;
#pragma unroll 1
  for (int i = 0; i < kScores; i += 2) {
    const std::int64_t row = (d.first_sample + sample) * d.total_heads + d.first_head + head;
    const auto index = static_cast<std::uint64_t>((row * d.length + d.first_query + query + i / 2 % 2 * 8) * d.length + d.first_key +
                                                  first_key + i / 4 * 8);
    const Philox4 block = Philox(d.random.key, index >> 2, d.random.step);
    const auto at = static_cast<unsigned>(index & 3);
    const std::uint32_t one = at == 0 ? block.x0 : at == 1 ? block.x1 : at == 2 ? block.x2 : block.x3;
    const std::uint32_t two = at == 0 ? block.x1 : at == 1 ? block.x2 : at == 2 ? block.x3 : d.random.Bits(index + 1);
    bits |= (one >= d.threshold ? 1u : 0u) << i | (two >= d.threshold ? 2u : 0u) << i;
  }
  return bits;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_MMA_CUH_
