// Rows as pieces of 16 bytes that a warp reads, and their signatures (signature_keys.h). Lane l of a warp has pieces l, l + 32, ... of a
// row; what lies behind the last column counts as zeros. Signatures are sums without order. Device code.
#ifndef LYCIA_KERNELS_REUSE_ROW_WORDS_CUH_
#define LYCIA_KERNELS_REUSE_ROW_WORDS_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cuda/pack.cuh"
#include "kernels/reuse/signature_keys.h"

namespace lycia::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

struct alignas(kWidestAccess) Piece {
  std::uint64_t words[2];
};
// Unsigned numbers as wide as an element of S.
template <typename S>
using BitsOf = std::conditional_t<sizeof(S) == 2, std::uint16_t, std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>>;
template <typename U>
inline constexpr int kPieceElements = kWidestAccess / static_cast<int>(sizeof(U));

// Rows of unsigned numbers as wide as the elements; kWide: every row begins at a multiple of 16 bytes.
template <typename U, bool kWide>
struct RowPieces {
  const U* data;
  std::int64_t ld;
  int cols;

  __device__ __forceinline__ int pieces() const { return (cols + kPieceElements<U> - 1) / kPieceElements<U>; }
  __device__ __forceinline__ Piece At(std::int64_t row, int piece) const {
    const int first = piece * kPieceElements<U>;
    const U* from = data + row * ld + first;
    if constexpr (kWide) {
      if (first + kPieceElements<U> <= cols) return *reinterpret_cast<const Piece*>(from);
    }
    constexpr int kInWord = 8 / static_cast<int>(sizeof(U)), kBits = 8 * static_cast<int>(sizeof(U));
    Piece all{};
#pragma unroll
    for (int e = 0; e < kPieceElements<U>; ++e) {
      if (first + e < cols) all.words[e / kInWord] |= static_cast<std::uint64_t>(from[e]) << e % kInWord * kBits;
    }
    return all;
  }
};

__device__ __forceinline__ std::uint64_t WarpSum(std::uint64_t sum) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  return sum;
}

// A word that stands at `word` of its row.
__device__ __forceinline__ std::uint64_t KeyedWord(std::uint64_t bits, int word) {
  return KeyedProduct(bits, kFirstKey + kKeyStep * static_cast<std::uint64_t>(word));
}

// Rows are alike where their bits are equal.
template <typename U, bool kWide>
struct BitKeys {
  RowPieces<U, kWide> rows;

  __device__ std::uint64_t Signature(std::int64_t row, int lane) const {
    std::uint64_t sum = 0;
#pragma unroll 4
    for (int p = lane; p < rows.pieces(); p += 32) {
      const Piece piece = rows.At(row, p);
      sum += KeyedWord(piece.words[0], 2 * p) + KeyedWord(piece.words[1], 2 * p + 1);
    }
    return MixBits(WarpSum(sum));
  }
  __device__ bool Equal(std::int64_t row, std::int64_t other, int lane) const {
    std::uint64_t differs = 0;
#pragma unroll 4
    for (int p = lane; p < rows.pieces(); p += 32) {
      const Piece a = rows.At(row, p), b = rows.At(other, p);
      differs |= (a.words[0] ^ b.words[0]) | (a.words[1] ^ b.words[1]);
    }
    return __ballot_sync(kAllLanes, differs != 0) == 0;
  }
};

__device__ __forceinline__ float Nearest(float x) { return rintf(x); }
__device__ __forceinline__ double Nearest(double x) { return rint(x); }

// Rows of S are alike where their elements, times the reciprocal of delta, round alike; a row with a NaN where its bits are equal, and is
// then signed by them.
template <typename S, typename U, bool kWide>
struct QuantizedKeys {
  using A = Arithmetic<S>;
  static_assert(sizeof(S) == sizeof(U));
  BitKeys<U, kWide> bits;
  A reciprocal;

  __device__ __forceinline__ A ElementOf(const Piece& piece, int e) const {
    constexpr int kInWord = 8 / static_cast<int>(sizeof(U)), kBits = 8 * static_cast<int>(sizeof(U));
    const U raw = static_cast<U>(piece.words[e / kInWord] >> e % kInWord * kBits);
    S element;
    memcpy(&element, &raw, sizeof(element));
    return Nearest(Widen(element) * reciprocal) + A(0);  // one zero
  }
  __device__ std::uint64_t Signature(std::int64_t row, int lane) const {
    constexpr int kElements = kPieceElements<U>, kInWord = 8 / static_cast<int>(sizeof(A));
    std::uint64_t sum = 0;
    bool nan = false;
    for (int p = lane; p < bits.rows.pieces(); p += 32) {
      const Piece piece = bits.rows.At(row, p);
#pragma unroll
      for (int first = 0; first < kElements; first += kInWord) {
        A numbers[kInWord];
#pragma unroll
        for (int e = 0; e < kInWord; ++e) {
          numbers[e] = ElementOf(piece, first + e);
          nan = nan || numbers[e] != numbers[e];
        }
        std::uint64_t word;
        memcpy(&word, numbers, sizeof(word));
        sum += KeyedWord(word, (p * kElements + first) / kInWord);
      }
    }
    if (__ballot_sync(kAllLanes, nan) != 0) return bits.Signature(row, lane);
    return MixBits(WarpSum(sum));
  }
  __device__ bool Equal(std::int64_t row, std::int64_t other, int lane) const {
    bool differs = false;
    for (int p = lane; p < bits.rows.pieces(); p += 32) {
      const Piece a = bits.rows.At(row, p), b = bits.rows.At(other, p);
#pragma unroll
      for (int e = 0; e < kPieceElements<U>; ++e) differs = differs || ElementOf(a, e) != ElementOf(b, e);
    }
    return __ballot_sync(kAllLanes, differs) == 0 || bits.Equal(row, other, lane);
  }
};

// The cell of a projection: floor(sum / width + shift), or one NaN where that is not finite.
__device__ __forceinline__ float Floor(float x) { return floorf(x); }
__device__ __forceinline__ double Floor(double x) { return floor(x); }
template <typename A>
__device__ __forceinline__ A CellOf(A sum, A reciprocal_width, double shift) {
  const A cell = Floor(sum * reciprocal_width + static_cast<A>(shift));
  return cell - cell == A(0) ? cell + A(0) : std::numeric_limits<A>::quiet_NaN();
}

// Rows are alike where all of their `count` cells are; where one is a NaN, by their bits.
template <typename A, typename Bits>
struct CellKeys {
  Bits bits;
  const A* cells;  // [rows, count]
  int count;

  __device__ std::uint64_t Signature(std::int64_t row, int lane) const {
    std::uint64_t sum = 0;
    bool nan = false;
    for (int h = lane; h < count; h += 32) {
      const A cell = cells[row * count + h];
      nan = nan || cell != cell;
      std::uint64_t word = 0;
      memcpy(&word, &cell, sizeof(cell));
      sum += KeyedWord(word, h);
    }
    if (__ballot_sync(kAllLanes, nan) != 0) return bits.Signature(row, lane);
    return MixBits(WarpSum(sum));
  }
  __device__ bool Equal(std::int64_t row, std::int64_t other, int lane) const {
    bool differs = false;
    for (int h = lane; h < count; h += 32) differs = differs || cells[row * count + h] != cells[other * count + h];
    return __ballot_sync(kAllLanes, differs) == 0 || bits.Equal(row, other, lane);
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_ROW_WORDS_CUH_
