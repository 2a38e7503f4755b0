// Small matrix products on tiles that lie in the caches, and how tiles are packed for them.
#ifndef LYCIA_KERNELS_ATTENTION_TILE_PRODUCT_H_
#define LYCIA_KERNELS_ATTENTION_TILE_PRODUCT_H_

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/vector.h"

namespace lycia::cpu {

inline constexpr std::int64_t kQueryTile = 64;  // lanes: four AVX-512 registers of f32, eight of f64
inline constexpr std::int64_t kKeyTile = 64;    // K, V and the scores of a tile, 3 * 16 KiB at D = 64, stay in the caches L1 and L2

// Head sizes are padded in scratch, so that whole vectors may be loaded.
template <typename T>
constexpr std::int64_t PaddedHead(std::int64_t head_dim) {
  constexpr std::int64_t kWidest = kCacheLine / static_cast<std::int64_t>(sizeof(T));
  return (head_dim + kWidest - 1) / kWidest * kWidest;
}

// Which terms of a product count on the diagonal of a causal mask: all; k < edge + j for column j; k >= edge + i for row i. The others are
// left out, not multiplied by a zero: what they would read may be no number.
enum class Terms { kAll, kBeforeColumn, kFromRow };

// c[i][j] (+)= sum over k of a(i, k) b[k][j], a(i, k) at a[i * a_row + k * a_col]. Rows of b are readable up to n rounded up to a vector.
template <typename T>
struct TileProduct {
  std::int64_t m, n, k;
  const T* a;
  std::int64_t a_row, a_col;
  const T* b;
  std::int64_t b_row;
  T* c;
  std::int64_t c_row;
  bool accumulate;
  std::int64_t edge = 0;
};

// Lane i: lane + i.
template <typename V>
LYCIA_INLINE inline MaskOf<V> LaneIndices(std::int64_t lane) {
  MaskOf<V> index;
  for (int i = 0; i < kLanes<V>; ++i) index[i] = static_cast<Element<MaskOf<V>>>(lane + i);
  return index;
}

template <typename V, int kRows, int kVectors, Terms kTerms, typename T = Element<V>>
LYCIA_INLINE inline void MultiplyBlock(const TileProduct<T>& p, std::int64_t i, std::int64_t j) {
  constexpr int L = kLanes<V>;
  V sum[kRows][kVectors] = {};
  const T* a = p.a + i * p.a_row;
  const T* b = p.b + j;
  std::int64_t k = 0;
  // Terms up to `end`; of some, parts of the block's elements only.
  const auto add = [&](std::int64_t end, auto some) LYCIA_INLINE {
    for (; k < end; ++k, a += p.a_col, b += p.b_row) {
      V row[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) row[v] = Load<V>(b + v * L);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        if constexpr (some && kTerms == Terms::kFromRow) {
          if (k < p.edge + i + r) continue;
        }
        const T factor = a[r * p.a_row];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const V more = sum[r][v] + factor * row[v];
          if constexpr (some && kTerms == Terms::kBeforeColumn) {
            sum[r][v] = LaneIndices<V>(p.edge + j + v * L) > static_cast<Element<MaskOf<V>>>(k) ? more : sum[r][v];
          } else {
            sum[r][v] = more;
          }
        }
      }
    }
  };
  if constexpr (kTerms == Terms::kFromRow) add(std::clamp(p.edge + i + kRows - 1, std::int64_t{0}, p.k), std::true_type{});
  add(kTerms == Terms::kBeforeColumn ? std::clamp(p.edge + j, std::int64_t{0}, p.k) : p.k, std::false_type{});
  if constexpr (kTerms == Terms::kBeforeColumn) add(p.k, std::true_type{});
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      T* c = p.c + (i + r) * p.c_row + j + v * L;
      const std::int64_t valid = p.n - j - v * L;
      if (valid >= L) {
        Store<V>(c, p.accumulate ? Load<V>(c) + sum[r][v] : sum[r][v]);
      } else {
        StorePart<V>(c, p.accumulate ? LoadPart<V>(c, valid) + sum[r][v] : sum[r][v], valid);
      }
    }
  }
}

template <typename V, int kRows, int kVectors, Terms kTerms, typename T = Element<V>>
LYCIA_INLINE inline void MultiplyRows(const TileProduct<T>& p, std::int64_t j) {
  std::int64_t i = 0;
  for (; i + kRows <= p.m; i += kRows) MultiplyBlock<V, kRows, kVectors, kTerms>(p, i, j);
  for (; i < p.m; ++i) MultiplyBlock<V, 1, kVectors, kTerms>(p, i, j);
}

// Register blocks: sums + one row of b + a factor must fit 32 (AVX-512) or 16 registers, and hide the latency of 4 x 2 multiply-adds.
template <Isa isa, Terms kTerms, typename T>
LYCIA_INLINE inline void Multiply(const TileProduct<T>& p) {
  using V = Vector<T, isa>;
  constexpr int kVectors = 2, kRows = isa == Isa::kAvx512 ? 8 : 4;
  std::int64_t j = 0;
  for (; j + kVectors * kLanes<V> <= p.n; j += kVectors * kLanes<V>) MultiplyRows<V, kRows, kVectors, kTerms>(p, j);
  for (; j < p.n; j += kLanes<V>) MultiplyRows<V, kRows, 1, kTerms>(p, j);
}

// rows x D from strided memory, times factor, into scratch rows of `padded` elements; the padding becomes 0.
template <typename T>
LYCIA_INLINE inline void PackRows(const T* from, std::int64_t row_stride, std::int64_t rows, std::int64_t head_dim, std::int64_t padded,
                                  T factor, T* to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < head_dim; ++d) to[r * padded + d] = from[r * row_stride + d] * factor;
    for (std::int64_t d = head_dim; d < padded; ++d) to[r * padded + d] = T(0);
  }
}

// [rows, D] packed -> [D, kQueryTile]; lanes beyond rows become 0.
template <typename T>
LYCIA_INLINE inline void TransposeRows(const T* from, std::int64_t rows, std::int64_t head_dim, std::int64_t padded, T* to) {
  for (std::int64_t d = 0; d < head_dim; ++d) {
    for (std::int64_t r = 0; r < rows; ++r) to[d * kQueryTile + r] = from[r * padded + d];
    for (std::int64_t r = rows; r < kQueryTile; ++r) to[d * kQueryTile + r] = T(0);
  }
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_TILE_PRODUCT_H_
