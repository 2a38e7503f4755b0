// The parts that the forward and the backward attention on the CPU are made of: which tiles there are, and small products on them.
//
// A tile is up to kQueryTile queries times kKeyTile keys, stored key by key with the queries side by side ("transposed"): queries are the
// lanes of the vectors, so the softmax, a sum over keys, needs no sum across lanes. Lanes come in strips of one vector.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_TILE_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_TILE_H_

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/cpu/vector.h"

namespace lycia::cpu {

inline constexpr std::int64_t kQueryTile = 64;  // lanes: four AVX-512 registers of f32, eight of f64
inline constexpr std::int64_t kKeyTile = 64;    // K, V and the scores of a tile, 3 * 16 KiB at D = 64, stay in the caches L1 and L2

// Head sizes are padded in scratch, so that whole vectors may be loaded.
template <typename T>
constexpr std::int64_t PaddedHead(std::int64_t head_dim) {
  return (head_dim + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

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
};

template <int kRows, int kVectors, typename T>
LYCIA_INLINE inline void MultiplyBlock(const TileProduct<T>& p, std::int64_t i, std::int64_t j) {
  constexpr int L = kLanes<T>;
  Vector<T> sum[kRows][kVectors] = {};
  const T* a = p.a + i * p.a_row;
  const T* b = p.b + j;
  for (std::int64_t k = 0; k < p.k; ++k, a += p.a_col, b += p.b_row) {
    Vector<T> row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = Load(b + v * L);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const T factor = a[r * p.a_row];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      T* c = p.c + (i + r) * p.c_row + j + v * L;
      const std::int64_t valid = p.n - j - v * L;
      if (valid >= L) {
        Store<T>(c, p.accumulate ? Load(c) + sum[r][v] : sum[r][v]);
      } else {
        StorePart<T>(c, p.accumulate ? LoadPart(c, valid) + sum[r][v] : sum[r][v], valid);
      }
    }
  }
}

template <int kRows, int kVectors, typename T>
LYCIA_INLINE inline void MultiplyRows(const TileProduct<T>& p, std::int64_t j) {
  std::int64_t i = 0;
  for (; i + kRows <= p.m; i += kRows) MultiplyBlock<kRows, kVectors>(p, i, j);
  for (; i < p.m; ++i) MultiplyBlock<1, kVectors>(p, i, j);
}

// Register blocks: sums + one row of b + a factor must fit 32 (AVX-512) or 16 registers, and hide the latency of 4 x 2 multiply-adds.
template <Isa isa, typename T>
LYCIA_INLINE inline void Multiply(const TileProduct<T>& p) {
  constexpr int kVectors = isa == Isa::kAvx512 ? 2 : 1;
  constexpr int kRows = isa == Isa::kAvx512 ? 8 : isa == Isa::kAvx2 ? 4 : 2;
  std::int64_t j = 0;
  for (; j + kVectors * kLanes<T> <= p.n; j += kVectors * kLanes<T>) MultiplyRows<kRows, kVectors>(p, j);
  for (; j < p.n; j += kLanes<T>) MultiplyRows<kRows, 1>(p, j);
}

// rows x D from strided memory, times factor, into scratch rows of `padded` elements; the padding becomes 0.
template <typename T>
LYCIA_INLINE inline void PackRows(const T* from, std::int64_t row_stride, std::int64_t rows, std::int64_t head_dim, std::int64_t padded, T factor, T* to) {
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

// Queries [begin, end) of one sequence whose keys are [first_key, last_key), within one query block of the block mask.
struct QueryTile {
  std::int64_t begin, end;
  std::int64_t first_key, last_key;
};

template <typename F>
void ForEachQueryTile(const AttentionProblem& p, const F& f) {
  const std::size_t sequences = p.sequence_offsets.empty() ? 1 : p.sequence_offsets.size() - 1;
  for (std::size_t s = 0; s < sequences; ++s) {
    const bool packed = !p.sequence_offsets.empty();
    const std::int64_t begin = packed ? p.sequence_offsets[s] : 0, end = packed ? p.sequence_offsets[s + 1] : p.queries;
    for (std::int64_t q = begin; q < end;) {
      std::int64_t next = std::min(q + kQueryTile, end);
      if (p.blocks.block > 0) next = std::min(next, (q / p.blocks.block + 1) * p.blocks.block);
      f(QueryTile{q, next, packed ? begin : 0, packed ? end : p.keys});
      q = next;
    }
  }
}

// Keys [begin, end) of a tile. How many of them lane l of the query tile sees: clamp(visible_to_lane_0 + l, 0, end - begin).
struct KeyTile {
  std::int64_t begin, end;
  std::int64_t visible_to_lane_0;

  std::int64_t count() const { return end - begin; }
  std::int64_t Visible(std::int64_t lane) const { return std::clamp(visible_to_lane_0 + lane, std::int64_t{0}, count()); }
  bool Full() const { return visible_to_lane_0 >= count(); }
};

// Tiles of keys that a query tile visits, ascending; those that the mask hides from all its queries are left out.
template <typename F>
LYCIA_INLINE inline void ForEachKeyTile(const AttentionProblem& p, const QueryTile& q, const F& f) {
  const bool causal = p.mask == MaskKind::kCausal;
  // Key index (not position) that query 0 of the call sees last, plus 1; query i sees i more.
  const std::int64_t shift = p.first_query - p.first_key + 1;
  const std::int64_t last_key = causal ? std::min(q.last_key, q.end - 1 + shift) : q.last_key;
  std::int64_t run = 0, runs = 1;
  if (p.blocks.block > 0) {
    run = p.blocks.first[static_cast<std::size_t>(q.begin / p.blocks.block)];
    runs = p.blocks.first[static_cast<std::size_t>(q.begin / p.blocks.block) + 1];
  }
  for (; run < runs; ++run) {
    std::int64_t begin = q.first_key, end = last_key;
    if (p.blocks.block > 0) {
      const std::int64_t block = p.blocks.key_blocks[static_cast<std::size_t>(run)];
      begin = std::max(begin, block * p.blocks.block);
      end = std::min(end, (block + 1) * p.blocks.block);
    }
    for (std::int64_t k = begin; k < end; k += kKeyTile) {
      KeyTile tile{k, std::min(k + kKeyTile, end), 0};
      tile.visible_to_lane_0 = causal ? q.begin + shift - k : tile.count();
      f(tile);
    }
  }
}

// How many keys of the tile any lane of a strip sees.
template <typename T>
LYCIA_INLINE inline std::int64_t StripLimit(const KeyTile& keys, const QueryTile& q, std::int64_t lane) {
  return keys.Visible(std::min(lane + kLanes<T>, q.end - q.begin) - 1);
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_TILE_H_
