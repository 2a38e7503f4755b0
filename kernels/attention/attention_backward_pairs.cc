// Backward attention in bf16 on pairs, tile by tile as in attention_backward_cpu.cc. Probabilities and dscores are rounded to bf16 before
// the products that use them; delta comes from the rounded out; dq of a tile, and dk and dv of a key head, are summed in f32 and rounded
// once.
#include "kernels/attention/attention_pairs.h"
#include "kernels/attention/attention_softmax.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {
namespace {

using V = Vector<float, Isa::kAvx512>;
constexpr std::int64_t L = kLanes<V>;

struct Head {
  const MicroKernel& kernel;
  const AttentionBackwardArgs& args;
  PairShape z;
  PairBackwardKeys keys;
  PairBackwardTile s;
  std::int64_t b, h;
};

// Rows of a view as panels of b twice: with D as depth, and with the rows as depth.
void PackQueries(const Head& head, const ConstHeadsView& view, const QueryTile& q, Word* by_feature, Word* by_row) {
  const BFloat16* from = RowsOf<BFloat16>(view, head.b, q.begin, head.h);
  const std::int64_t rows = q.end - q.begin, D = head.z.head_dim;
  const auto pack = head.kernel.pack_b;
  PackPanels(pack, {.from = from, .ld = view.row_stride, .k_contiguous = true, .lanes = rows, .depth = D, .words = head.z.head_words},
             head.z.cols, view.row_stride, by_feature);
  PackPanels(pack, {.from = from, .ld = view.row_stride, .k_contiguous = false, .lanes = D, .depth = rows, .words = kTileWords},
             head.z.cols, 1, by_row);
}

LYCIA_INLINE inline void LoadStatistics(const Head& head, const QueryTile& q) {
  const AttentionProblem& p = head.args.problem;
  const float* log_sum_exp = head.args.log_sum_exp.as<float>() + (head.b * p.heads + head.h) * p.queries;
  for (std::int64_t r = 0; r < kQueryTile; ++r) {
    const bool there = r < q.end - q.begin;
    head.s.log_sum_exp[r] = there ? log_sum_exp[q.begin + r] : 0;
    head.s.delta[r] = 0;
    if (!there) continue;
    const BFloat16* out = RowsOf<BFloat16>(head.args.out, head.b, q.begin + r, head.h);
    const BFloat16* dout = RowsOf<BFloat16>(head.args.dout, head.b, q.begin + r, head.h);
    head.s.delta[r] = SumVectors<V>(p.head_dim, [&](auto lanes) LYCIA_INLINE { return lanes.Get(out) * lanes.Get(dout); });
  }
}

// One strip: scores and dout vᵀ -> probabilities (dropped) and dscores, as f32 and as rows of bf16; zeros in the keys that it does not see.
LYCIA_INLINE inline void GradientStrip(const Head& head, const QueryTile& q, const KeyTile& keys, std::int64_t strip, std::int64_t limit) {
  const AttentionProblem& p = head.args.problem;
  const PairBackwardTile& s = head.s;
  const float scale = static_cast<float>(p.scale);
  float *probabilities = s.probabilities + strip, *dscores = s.dprobabilities + strip;
  const V log_sum_exp = Load<V>(s.log_sum_exp + strip), delta = Load<V>(s.delta + strip);
  for (std::int64_t k = 0; k < limit; ++k) {
    Store<V>(probabilities + k * kQueryTile, Exp(Load<V>(probabilities + k * kQueryTile) * scale - log_sum_exp));
  }
  if (!keys.Full()) Hide<V>(keys, strip, limit, 0.0f, probabilities);
  const bool dropped = p.dropout.rate > 0;
  if (dropped) DropoutFactors<Isa::kAvx512>(p, head.b, head.h, q, keys, strip, limit, s.factors + strip);
  for (std::int64_t k = 0; k < limit; ++k) {
    const V probability = Load<V>(probabilities + k * kQueryTile);
    V factor = Broadcast<V>(1.0f);
    if (dropped) factor = Load<V>(s.factors + strip + k * kQueryTile);
    const V dscore = probability * (Load<V>(dscores + k * kQueryTile) * factor - delta);
    Store<V>(dscores + k * kQueryTile, dscore);
    StoreAs<V>(s.dscore_rows + k * kQueryTile + strip, dscore);
    StoreAs<V>(s.probability_rows + k * kQueryTile + strip, probability * factor);
  }
  for (std::int64_t k = limit; k < keys.count(); ++k) {
    StoreAs<V>(s.dscore_rows + k * kQueryTile + strip, V{});
    StoreAs<V>(s.probability_rows + k * kQueryTile + strip, V{});
  }
}

// sums[keys of the tile][D] += rowsᵀ columns.
void AddToKeys(const Head& head, const KeyTile& keys, const BFloat16* rows, const Word* columns, float* sums) {
  const PairShape& z = head.z;
  PackPanels(head.kernel.pack_a,
             {.from = rows, .ld = kQueryTile, .k_contiguous = true, .lanes = keys.count(), .depth = kQueryTile, .words = kTileWords},
             z.rows, kQueryTile, head.s.packed);
  for (std::int64_t k = 0; k < keys.count(); k += z.rows) {
    for (std::int64_t d = 0; d < z.head_dim; d += z.cols) {
      head.kernel.tile({.a = head.s.packed + k * kTileWords,
                        .b = columns + d * kTileWords,
                        .words = kTileWords,
                        .c = sums + (keys.begin + k) * z.head_dim + d,
                        .ld = z.head_dim,
                        .rows = static_cast<int>(std::min(z.rows, keys.count() - k)),
                        .cols = static_cast<int>(std::min(z.cols, z.head_dim - d)),
                        .add = true});
    }
  }
}

LYCIA_INLINE inline void KeyTileStep(const Head& head, const QueryTile& q, const KeyTile& keys, const KeyTurns& turns) {
  const PairShape& z = head.z;
  const PairBackwardTile& s = head.s;
  const std::int64_t rows = q.end - q.begin, tile = keys.begin / kKeyTile, unit = head.kernel.word_unit;
  for (std::int64_t lane = 0; lane < kQueryTile; lane += z.cols) {
    const std::int64_t limit = lane < rows ? keys.Visible(std::min(lane + z.cols, rows) - 1) : 0;
    for (std::int64_t k = 0; k < limit; k += z.rows) {
      TileArgs product{.a = head.keys.k + tile * z.by_key() + k * z.head_words,
                       .b = s.q + lane * z.head_words,
                       .words = z.head_words,
                       .c = s.probabilities + k * kQueryTile + lane,
                       .ld = kQueryTile,
                       .rows = static_cast<int>(std::min(z.rows, limit - k)),
                       .cols = static_cast<int>(z.cols)};
      head.kernel.tile(product);
      product.a = head.keys.v + tile * z.by_key() + k * z.head_words;
      product.b = s.dout + lane * z.head_words;
      product.c = s.dprobabilities + k * kQueryTile + lane;
      head.kernel.tile(product);
    }
    const std::int64_t words = ((limit + 1) / 2 + unit - 1) / unit * unit;
    for (std::int64_t strip = lane; strip < lane + z.cols; strip += L) {
      GradientStrip(head, q, keys, strip, limit);
      PackStrip<V>(s.dprobabilities + strip, limit, words, z.cols, s.dscores + lane * kTileWords + (strip - lane));
    }
    if (limit == 0) continue;
    for (std::int64_t d = 0; d < z.head_dim; d += z.rows) {
      head.kernel.tile({.a = head.keys.k_t + tile * z.by_feature() + d * kTileWords,
                        .b = s.dscores + lane * kTileWords,
                        .words = words,
                        .c = s.dq_t + d * kQueryTile + lane,
                        .ld = kQueryTile,
                        .rows = static_cast<int>(std::min(z.rows, z.head_dim - d)),
                        .cols = static_cast<int>(z.cols),
                        .add = true});
    }
  }
  turns.Await(keys.begin);
  AddToKeys(head, keys, s.probability_rows, s.dout_by_row, head.keys.dv);
  AddToKeys(head, keys, s.dscore_rows, s.q_by_row, head.keys.dk);
  turns.Pass(keys.begin);
}

LYCIA_INLINE inline void QueryTileStep(const Head& head, const QueryTile& q, const KeyTurns& turns) {
  const AttentionProblem& p = head.args.problem;
  const PairBackwardTile& s = head.s;
  PackQueries(head, head.args.q, q, s.q, s.q_by_row);
  PackQueries(head, head.args.dout, q, s.dout, s.dout_by_row);
  LoadStatistics(head, q);
  for (std::int64_t i = 0; i < p.head_dim * kQueryTile; i += L) Store<V>(s.dq_t + i, V{});
  ForEachKeyTile(p, q, [&](const KeyTile& keys) LYCIA_INLINE { KeyTileStep(head, q, keys, turns); });
  const float scale = static_cast<float>(p.scale);
  for (std::int64_t r = 0; r < q.end - q.begin; ++r) {
    BFloat16* dq = RowsOf<BFloat16>(head.args.dq, head.b, q.begin + r, head.h);
    for (std::int64_t d = 0; d < p.head_dim; ++d) dq[d] = BFloat16(s.dq_t[d * kQueryTile + r] * scale);
  }
}

}  // namespace

void BeginPairBackward(const MicroKernel& kernel, const AttentionBackwardArgs& args, const KeyHead& head, const Part& part) {
  const AttentionProblem& p = args.problem;
  const PairShape z = PairShape::Make(kernel, p);
  const PairBackwardKeys s = PairBackwardKeys::Make(head.memory, z, p.keys);
  for (std::int64_t tile = part.Begin(z.key_tiles); tile < part.End(z.key_tiles); ++tile) {
    const std::int64_t first = tile * kKeyTile, count = std::min(kKeyTile, p.keys - first);
    const BFloat16 *k = RowsOf<BFloat16>(args.k, head.b, first, head.g), *v = RowsOf<BFloat16>(args.v, head.b, first, head.g);
    PackPanels(kernel.pack_a,
               {.from = k, .ld = args.k.row_stride, .k_contiguous = true, .lanes = count, .depth = p.head_dim, .words = z.head_words},
               z.rows, args.k.row_stride, s.k + tile * z.by_key());
    PackPanels(kernel.pack_a,
               {.from = v, .ld = args.v.row_stride, .k_contiguous = true, .lanes = count, .depth = p.head_dim, .words = z.head_words},
               z.rows, args.v.row_stride, s.v + tile * z.by_key());
    PackPanels(kernel.pack_a,
               {.from = k, .ld = args.k.row_stride, .k_contiguous = false, .lanes = p.head_dim, .depth = count, .words = kTileWords},
               z.rows, 1, s.k_t + tile * z.by_feature());
    std::fill_n(s.dk + first * p.head_dim, count * p.head_dim, 0.0f);
    std::fill_n(s.dv + first * p.head_dim, count * p.head_dim, 0.0f);
  }
}

void PairBackwardQueries(const MicroKernel& kernel, const AttentionBackwardArgs& args, const KeyHead& head, std::int64_t h,
                         const QueryTile& q, void* tile_memory, const KeyTurns& turns) {
  const PairShape z = PairShape::Make(kernel, args.problem);
  const PairBackwardKeys keys = PairBackwardKeys::Make(head.memory, z, args.problem.keys);
  const Head one{kernel, args, z, keys, PairBackwardTile::Make(tile_memory, z), head.b, h};
  if (kernel.begin != nullptr) kernel.begin();
  internal::RunAvx512([&](auto) LYCIA_INLINE { QueryTileStep(one, q, turns); });  // there are no such kernels elsewhere
  if (kernel.end != nullptr) kernel.end();
}

void EndPairBackward(const MicroKernel& kernel, const AttentionBackwardArgs& args, const KeyHead& head, const Part& part) {
  const AttentionProblem& p = args.problem;
  const PairBackwardKeys s = PairBackwardKeys::Make(head.memory, PairShape::Make(kernel, p), p.keys);
  const float scale = static_cast<float>(p.scale);
  for (std::int64_t r = part.Begin(p.keys); r < part.End(p.keys); ++r) {
    BFloat16 *dk = RowsOf<BFloat16>(args.dk, head.b, r, head.g), *dv = RowsOf<BFloat16>(args.dv, head.b, r, head.g);
    for (std::int64_t d = 0; d < p.head_dim; ++d) {
      dk[d] = BFloat16(s.dk[r * p.head_dim + d] * scale);
      dv[d] = BFloat16(s.dv[r * p.head_dim + d]);
    }
  }
}

}  // namespace lycia::cpu
