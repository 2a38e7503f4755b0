// bf16 attention on a micro kernel of the matrix products that multiplies pairs of bf16 (AMX, AVX512_BF16): how a tile is cut into the
// kernel's panels, and the scratch of a key head and of a thread.
//
// Scores are stored as elsewhere on the CPU, key by key with queries as lanes: c = a b with the keys' side packed as a, the queries' as b.
// A key head's side is packed once for all query heads and tiles; that needs tiles of keys at multiples of kKeyTile.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_PAIRS_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_PAIRS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_scratch.h"
#include "kernels/attention/attention_share.h"
#include "kernels/attention/attention_tile.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/vector_stored.h"
#include "kernels/gemm/gemm_kernels.h"
#include "kernels/gemm/micro/micro_kernel.h"

namespace lycia::cpu {

// The widest tile of keys or queries in words: pairs of bf16.
inline constexpr std::int64_t kTileWords = kKeyTile / 2;
static_assert(kKeyTile == kQueryTile);

// The kernel for a problem, or null: tiles of f32 must do. Tiles of a block mask or of packed sequences may begin anywhere.
inline const MicroKernel* PairKernelFor(const AttentionProblem& p) {
  if (p.dtype != DType::kBF16 || BestIsa() != Isa::kAvx512) return nullptr;
  if (!p.sequence_offsets.empty() || p.blocks.block % kKeyTile != 0) return nullptr;
  const MicroKernel& kernel = SelectedKernel(DType::kBF16);
  return kernel.pairs && kQueryTile % kernel.cols == 0 && kTileWords % kernel.word_unit == 0 ? &kernel : nullptr;
}

using Word = std::uint32_t;
inline constexpr std::int64_t kPackSlack = 16;  // words that packing may overwrite beyond a panel

// Panels and words of one problem on one kernel.
struct PairShape {
  std::int64_t rows, cols;                 // lanes of a panel of a and of b
  std::int64_t head_dim, head_words;       // D, and D as depth: words, padded
  std::int64_t key_panels;                 // of a, in a tile of keys
  std::int64_t head_panels, head_columns;  // D as lanes: panels of a and of b
  std::int64_t key_tiles;

  static PairShape Make(const MicroKernel& kernel, const AttentionProblem& p) {
    const auto up = [](std::int64_t x, std::int64_t unit) { return (x + unit - 1) / unit; };
    return {.rows = kernel.rows,
            .cols = kernel.cols,
            .head_dim = p.head_dim,
            .head_words = up(up(p.head_dim, 2), kernel.word_unit) * kernel.word_unit,
            .key_panels = up(kKeyTile, kernel.rows),
            .head_panels = up(p.head_dim, kernel.rows),
            .head_columns = up(p.head_dim, kernel.cols),
            .key_tiles = up(p.keys, kKeyTile)};
  }
  // Words of a tile of keys packed as a: by keys with D as depth, and by D with keys as depth. Each with its slack: threads pack tiles that
  // stand side by side.
  std::int64_t by_key() const { return key_panels * rows * head_words + kPackSlack; }
  std::int64_t by_feature() const { return head_panels * rows * kTileWords + kPackSlack; }
};

struct PairForwardKeys {
  Word* k;  // [key tiles] by_key
  Word* v;  // [key tiles] by_feature
  std::int64_t bytes;

  static PairForwardKeys Make(void* data, const PairShape& z) {
    ScratchCutter<Word> cut{static_cast<char*>(data)};
    PairForwardKeys s;
    s.k = cut.Take(z.key_tiles * z.by_key());
    s.v = cut.Take(z.key_tiles * z.by_feature());
    s.bytes = cut.bytes;
    return s;
  }
};

struct PairForwardTile {
  Word* q;                  // [kQueryTile / cols] panels of b, D as depth
  Word* probabilities;      // [kQueryTile / cols] panels of b, keys as depth
  float *scores, *factors;  // [kKeyTile, kQueryTile]
  float* out_t;             // [D, kQueryTile]
  float *maximum, *sum;     // [kQueryTile]
  std::int64_t bytes;

  static PairForwardTile Make(void* data, const PairShape& z) {
    ScratchCutter<Word> words{static_cast<char*>(data)};
    PairForwardTile s;
    s.q = words.Take(kQueryTile * z.head_words + kPackSlack);
    s.probabilities = words.Take(kQueryTile * kTileWords + kPackSlack);
    ScratchCutter<float> cut{static_cast<char*>(data), words.bytes};
    s.scores = cut.Take(kKeyTile * kQueryTile);
    s.factors = cut.Take(kKeyTile * kQueryTile);
    s.out_t = cut.Take(z.head_dim * kQueryTile);
    s.maximum = cut.Take(kQueryTile);
    s.sum = cut.Take(kQueryTile);
    s.bytes = cut.bytes;
    return s;
  }
};

struct PairBackwardKeys {
  Word *k, *v;     // [key tiles] by_key
  Word* k_t;       // [key tiles] by_feature
  float *dk, *dv;  // [S, D], sums over the query heads of a key head
  std::int64_t bytes;

  static PairBackwardKeys Make(void* data, const PairShape& z, std::int64_t keys) {
    ScratchCutter<Word> words{static_cast<char*>(data)};
    PairBackwardKeys s;
    for (Word** part : {&s.k, &s.v}) *part = words.Take(z.key_tiles * z.by_key());
    s.k_t = words.Take(z.key_tiles * z.by_feature());
    ScratchCutter<float> cut{static_cast<char*>(data), words.bytes};
    for (float** part : {&s.dk, &s.dv}) *part = cut.Take(keys * z.head_dim);
    s.bytes = cut.bytes;
    return s;
  }
};

struct PairBackwardTile {
  Word *q, *dout;                                   // [kQueryTile / cols] panels of b, D as depth
  Word *q_by_row, *dout_by_row;                     // [head_columns] panels of b, queries as depth
  Word* dscores;                                    // [kQueryTile / cols] panels of b, keys as depth
  Word* packed;                                     // [key_panels] panels of a, queries as depth
  BFloat16 *probability_rows, *dscore_rows;         // [kKeyTile, kQueryTile]
  float *probabilities, *dprobabilities, *factors;  // [kKeyTile, kQueryTile]
  float* dq_t;                                      // [D, kQueryTile]
  float *log_sum_exp, *delta;                       // [kQueryTile]
  std::int64_t bytes;

  static PairBackwardTile Make(void* data, const PairShape& z) {
    ScratchCutter<Word> words{static_cast<char*>(data)};
    PairBackwardTile s;
    for (Word** part : {&s.q, &s.dout}) *part = words.Take(kQueryTile * z.head_words + kPackSlack);
    for (Word** part : {&s.q_by_row, &s.dout_by_row}) *part = words.Take(z.head_columns * z.cols * kTileWords + kPackSlack);
    s.dscores = words.Take(kQueryTile * kTileWords + kPackSlack);
    s.packed = words.Take(z.key_panels * z.rows * kTileWords + kPackSlack);
    ScratchCutter<BFloat16> halves{static_cast<char*>(data), words.bytes};
    for (BFloat16** part : {&s.probability_rows, &s.dscore_rows}) *part = halves.Take(kKeyTile * kQueryTile);
    ScratchCutter<float> cut{static_cast<char*>(data), halves.bytes};
    for (float** part : {&s.probabilities, &s.dprobabilities, &s.factors}) *part = cut.Take(kKeyTile * kQueryTile);
    s.dq_t = cut.Take(z.head_dim * kQueryTile);
    for (float** part : {&s.log_sum_exp, &s.delta}) *part = cut.Take(kQueryTile);
    s.bytes = cut.bytes;
    return s;
  }
};

// args.lanes rows or columns, lane_stride elements apart, as panels side by side.
inline void PackPanels(void (*pack)(const PackArgs&), PackArgs args, std::int64_t lanes_of_panel, std::int64_t lane_stride, Word* to) {
  const auto* from = static_cast<const BFloat16*>(args.from);
  const std::int64_t lanes = args.lanes;
  args.bf16 = true;
  for (std::int64_t lane = 0; lane < lanes; lane += lanes_of_panel, to += lanes_of_panel * args.words) {
    args.from = from + lane * lane_stride;
    args.lanes = std::min(lanes_of_panel, lanes - lane);
    args.to = to;
    pack(args);
  }
}

// Two rows of probabilities as words of pairs: the first in the lower halves.
template <typename V>
LYCIA_INLINE inline SameLanes<V, Word> PairOf(const V& first, const V& second) {
  return (ToBf16Words(first) >> 16) | (ToBf16Words(second) & 0xffff0000u);
}

// One strip of `limit` keys (rows of f32) into a panel of b with keys as depth, zeros up to `words` words.
template <typename V>
LYCIA_INLINE inline void PackStrip(const float* rows, std::int64_t limit, std::int64_t words, std::int64_t cols, Word* panel) {
  using U = SameLanes<V, Word>;
  const std::int64_t whole = limit / 2;
  for (std::int64_t w = 0; w < whole; ++w) {
    Store<U>(panel + w * cols, PairOf(Load<V>(rows + 2 * w * kQueryTile), Load<V>(rows + (2 * w + 1) * kQueryTile)));
  }
  std::int64_t w = whole;
  if (limit % 2 != 0) Store<U>(panel + w++ * cols, PairOf(Load<V>(rows + 2 * whole * kQueryTile), V{}));
  for (; w < words; ++w) Store<U>(panel + w * cols, U{});
}

// What ForEachKeyHead (attention_share.h) goes through: packs the keys of a part; a tile of queries; rounds dk and dv of a part.
void BeginPairForward(const MicroKernel& kernel, const AttentionForwardArgs& args, const KeyHead& head, const Part& part);
void PairForwardQueries(const MicroKernel& kernel, const AttentionForwardArgs& args, const KeyHead& head, std::int64_t h,
                        const QueryTile& q, void* tile_memory);
void BeginPairBackward(const MicroKernel& kernel, const AttentionBackwardArgs& args, const KeyHead& head, const Part& part);
void PairBackwardQueries(const MicroKernel& kernel, const AttentionBackwardArgs& args, const KeyHead& head, std::int64_t h,
                         const QueryTile& q, void* tile_memory, const KeyTurns& turns);
void EndPairBackward(const MicroKernel& kernel, const AttentionBackwardArgs& args, const KeyHead& head, const Part& part);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_PAIRS_H_
