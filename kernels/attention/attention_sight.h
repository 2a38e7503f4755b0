// Which keys queries see, tile by tile, for kernels that skip what nobody sees and mask only where they must. Plain numbers, for the host
// and for kernels.
//
// Beside the block mask, what a query sees is one interval of keys, and a key is seen by one interval of queries; both move to the right
// from row to row, so that the first and the last row of a tile tell of all.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_SIGHT_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_SIGHT_H_

#include <cstdint>

namespace lycia::cuda {

struct Interval {
  int begin = 0, end = 0;
  constexpr bool Holds(int i) const { return i >= begin && i < end; }
  bool operator==(const Interval&) const = default;
};

// A tile of queries and keys: of its pairs, as far as they exist.
enum class Sight { kNone, kSome, kAll };

// The lists lie where the caller runs.
struct AttentionSight {
  int queries = 0, keys = 0;
  bool causal = false;
  int shift = 0;                          // first_query - first_key
  const std::int32_t* offsets = nullptr;  // [num_offsets] of packed sequences
  int num_offsets = 0;
  int block = 0;  // 0: no block mask
  const std::int32_t *first = nullptr, *key_blocks = nullptr;

  // Beside the block mask.
  constexpr Interval KeysOf(int query) const {
    Interval seen = SequenceOf(query, keys);
    if (causal && seen.end > query + shift + 1) seen.end = query + shift + 1;
    if (seen.end < seen.begin) seen.end = seen.begin;
    return seen;
  }
  constexpr Interval QueriesOf(int key) const {
    Interval seen = SequenceOf(key, queries);
    if (causal && seen.begin < key - shift) seen.begin = key - shift;
    if (seen.begin > seen.end) seen.begin = seen.end;
    return seen;
  }
  // What the rows of a tile see together; those behind the last are not there.
  constexpr Interval KeysOfTile(int first_query, int tile) const {
    return {KeysOf(first_query).begin, KeysOf(Least(first_query + tile, queries) - 1).end};
  }
  constexpr Interval QueriesOfTile(int first_key, int tile) const {
    return {QueriesOf(first_key).begin, QueriesOf(Least(first_key + tile, keys) - 1).end};
  }

  // What the block mask shows of a pair.
  constexpr bool InBlocks(int query, int key) const {
    if (block == 0) return true;
    if (query >= queries) return false;
    const int row = query / block, column = key / block, at = FirstNotBelow(row, column);
    return at < first[row + 1] && key_blocks[at] == column;
  }
  constexpr Sight InBlocks(int first_query, int end_query, int first_key, int end_key) const {
    if (block == 0) return Sight::kAll;
    const int begin = first_key / block, end = (end_key - 1) / block + 1;
    int listed = 0, possible = 0;
    for (int row = first_query / block; row <= (end_query - 1) / block; ++row) {
      listed += FirstNotBelow(row, end) - FirstNotBelow(row, begin);
      possible += end - begin;
    }
    return listed == 0 ? Sight::kNone : listed == possible ? Sight::kAll : Sight::kSome;
  }

  // kAll: all queries that exist see all keys of the tile, which all exist.
  constexpr Sight Of(int first_query, int tile_queries, int first_key, int tile_keys) const {
    const int end_query = Least(first_query + tile_queries, queries), end_key = Least(first_key + tile_keys, keys);
    if (end_query <= first_query || end_key <= first_key) return Sight::kNone;
    const Interval top = KeysOf(first_query), bottom = KeysOf(end_query - 1);
    if (end_key <= top.begin || first_key >= bottom.end) return Sight::kNone;
    const Sight blocks = InBlocks(first_query, end_query, first_key, end_key);
    const bool inside = first_key >= bottom.begin && first_key + tile_keys <= top.end;
    return inside || blocks == Sight::kNone ? blocks : Sight::kSome;
  }
  // The first tile from `first` on, in steps of a tile, that is not kNone; `end` or behind it: there is none.
  constexpr int NextKeys(int first_query, int tile_queries, int from, int end, int tile_keys) const {
    while (from < end && Of(first_query, tile_queries, from, tile_keys) == Sight::kNone) from += tile_keys;
    return from;
  }
  constexpr int NextQueries(int first_key, int tile_keys, int from, int end, int tile_queries) const {
    while (from < end && Of(from, tile_queries, first_key, tile_keys) == Sight::kNone) from += tile_queries;
    return from;
  }

 private:
  static constexpr int Least(int a, int b) { return a < b ? a : b; }
  // [begin, end) of the sequence that holds a row, of all `rows` without packed sequences.
  constexpr Interval SequenceOf(int row, int rows) const {
    int low = 0, high = num_offsets;  // the first offset behind the row is among them
    while (low < high) {
      const int middle = (low + high) / 2;
      if (offsets[middle] > row) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return {low == 0 ? 0 : offsets[low - 1], low == num_offsets ? rows : offsets[low]};
  }
  // Where in the list of a row of blocks the first is that is `column` or behind it.
  constexpr int FirstNotBelow(int row, int column) const {
    int low = first[row], high = first[row + 1];
    while (low < high) {
      const int middle = (low + high) / 2;
      if (key_blocks[middle] >= column) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_SIGHT_H_
