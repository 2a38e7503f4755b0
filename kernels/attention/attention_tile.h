// Which tiles of queries and keys the attention on the CPU goes through.
//
// A tile is up to kQueryTile queries times kKeyTile keys, stored key by key with the queries side by side ("transposed"): queries are the
// lanes of the vectors, so the softmax, a sum over keys, needs no sum across lanes. Lanes come in strips of one vector.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_TILE_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_TILE_H_

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile_product.h"
#include "kernels/cpu/vector.h"

namespace lycia::cpu {

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
template <typename V>
LYCIA_INLINE inline std::int64_t StripLimit(const KeyTile& keys, const QueryTile& q, std::int64_t lane) {
  return keys.Visible(std::min(lane + kLanes<V>, q.end - q.begin) - 1);
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_TILE_H_
