// Backward attention on the CPU. For each head and tile of queries, and each tile of keys it saw, the probabilities are made again from
// log_sum_exp; then (FlashAttention-2, algorithm 2; f is the dropout factor, delta = sum over d of dout * out)
//
//   p = exp(s - log_sum_exp);  dv += (p f)ᵀ dout;  ds = p (f dout vᵀ - delta);  dq += scale ds k;  dk += scale dsᵀ q
//
// Queries are the lanes, as in the forward. dk and dv of a key head are summed in memory over tiles of queries and, for each, query heads,
// in that fixed order.
#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_head.h"
#include "kernels/attention/attention_scratch.h"
#include "kernels/attention/attention_softmax.h"
#include "kernels/attention/attention_tile.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {
namespace {

// Keys of a diagonal tile are multiplied with the queries that see them in groups of this many.
constexpr std::int64_t kKeyGroup = 16;

// The query side of a tile: packed and transposed q (scaled) and dout, delta, log_sum_exp.
template <typename V, typename T = Element<V>>
LYCIA_INLINE inline void LoadQueries(const AttentionBackwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h,
                                     const BackwardScratch<T>& s) {
  const AttentionProblem& p = args.problem;
  const std::int64_t D = p.head_dim, padded = PaddedHead<T>(D), rows = q.end - q.begin;
  PackRows(RowsOf<T>(args.q, b, q.begin, h), args.q.row_stride, rows, D, padded, static_cast<T>(p.scale), s.q);
  PackRows(RowsOf<T>(args.dout, b, q.begin, h), args.dout.row_stride, rows, D, padded, T(1), s.dout);
  TransposeRows(s.q, rows, D, padded, s.q_t);
  TransposeRows(s.dout, rows, D, padded, s.dout_t);
  const T* log_sum_exp = args.log_sum_exp.as<T>() + (b * p.heads + h) * p.queries;
  for (std::int64_t r = 0; r < kQueryTile; ++r) {
    s.log_sum_exp[r] = r < rows ? log_sum_exp[q.begin + r] : T(0);
    s.delta[r] = T(0);
    if (r >= rows) continue;
    const T *out = RowsOf<T>(args.out, b, q.begin + r, h), *dout = s.dout + r * padded;
    s.delta[r] = SumVectors<V>(D, [&](auto lanes) LYCIA_INLINE { return lanes.Get(out) * lanes.Get(dout); });
  }
}

// One strip: scores and dout vᵀ -> probabilities (dropped) and dscores. What the mask hides is left as it comes: no product reads it.
template <Isa isa, typename T>
LYCIA_INLINE inline void ScoreGradients(const AttentionProblem& p, const QueryTile& q, const KeyTile& keys, std::int64_t b, std::int64_t h,
                                        std::int64_t strip, std::int64_t limit, const BackwardScratch<T>& s) {
  using V = Vector<T, isa>;
  T *probabilities = s.probabilities + strip, *dscores = s.dscores + strip;
  const V log_sum_exp = Load<V>(s.log_sum_exp + strip), delta = Load<V>(s.delta + strip);
  for (std::int64_t k = 0; k < limit; ++k) {
    Store<V>(probabilities + k * kQueryTile, Exp(Load<V>(probabilities + k * kQueryTile) - log_sum_exp));
  }
  if (p.dropout.rate == 0) {
    for (std::int64_t k = 0; k < limit; ++k) {
      T* ds = dscores + k * kQueryTile;
      Store<V>(ds, Load<V>(probabilities + k * kQueryTile) * (Load<V>(ds) - delta));
    }
    return;
  }
  DropoutFactors<isa>(p, b, h, q, keys, strip, limit, s.factors + strip);
  for (std::int64_t k = 0; k < limit; ++k) {
    T *ds = dscores + k * kQueryTile, *probability = probabilities + k * kQueryTile;
    const V factor = Load<V>(s.factors + strip + k * kQueryTile);
    Store<V>(ds, Load<V>(probability) * (Load<V>(ds) * factor - delta));
    Store<V>(probability, Load<V>(probability) * factor);
  }
}

// dv += pᵀ dout and dk += dsᵀ q for the keys of a tile.
template <Isa isa, typename T>
LYCIA_INLINE inline void AddKeyGradients(const AttentionBackwardArgs& args, const QueryTile& q, const KeyTile& keys, std::int64_t b,
                                         std::int64_t g, const BackwardScratch<T>& s) {
  const std::int64_t D = args.problem.head_dim, padded = PaddedHead<T>(D), rows = q.end - q.begin;
  const std::int64_t group = keys.Full() ? keys.count() : kKeyGroup;
  for (std::int64_t k = 0; k < keys.count(); k += group) {
    const std::int64_t first_row = std::clamp(k - keys.visible_to_lane_0 + 1, std::int64_t{0}, rows);  // that sees key k
    if (first_row == rows) continue;
    TileProduct<T> product{.m = std::min(group, keys.count() - k),
                           .n = D,
                           .k = rows - first_row,
                           .a = s.probabilities + k * kQueryTile + first_row,
                           .a_row = kQueryTile,
                           .a_col = 1,
                           .b = s.dout + first_row * padded,
                           .b_row = padded,
                           .c = RowsOf<T>(args.dv, b, keys.begin + k, g),
                           .c_row = args.dv.row_stride,
                           .accumulate = true,
                           .edge = k - keys.visible_to_lane_0 + 1 - first_row};
    Multiply<isa, Terms::kFromRow, T>(product);
    product.a = s.dscores + k * kQueryTile + first_row;
    product.b = s.q + first_row * padded;
    product.c = RowsOf<T>(args.dk, b, keys.begin + k, g);
    product.c_row = args.dk.row_stride;
    Multiply<isa, Terms::kFromRow, T>(product);
  }
}

template <Isa isa, typename T>
LYCIA_INLINE inline void TileOn(const AttentionBackwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h,
                                const BackwardScratch<T>& s, const KeyTurns& turns) {
  const AttentionProblem& p = args.problem;
  using V = Vector<T, isa>;
  constexpr std::int64_t L = kLanes<V>;
  const std::int64_t D = p.head_dim, padded = PaddedHead<T>(D), rows = q.end - q.begin, lanes = (rows + L - 1) / L * L;
  const std::int64_t g = h / (p.heads / p.kv_heads);
  LoadQueries<V>(args, q, b, h, s);
  for (std::int64_t i = 0; i < D * kQueryTile; ++i) s.dq_t[i] = T(0);

  ForEachKeyTile(p, q, [&](const KeyTile& keys) LYCIA_INLINE {
    PackRows(RowsOf<T>(args.k, b, keys.begin, g), args.k.row_stride, keys.count(), D, padded, T(1), s.k);
    PackRows(RowsOf<T>(args.v, b, keys.begin, g), args.v.row_stride, keys.count(), D, padded, T(1), s.v);
    const bool full = keys.Full();
    const std::int64_t width = full ? lanes : L;
    for (std::int64_t lane = 0; lane < lanes; lane += width) {
      const std::int64_t limit = full ? keys.count() : StripLimit<V>(keys, q, lane);
      Multiply<isa, Terms::kAll, T>({.m = limit,
                                     .n = width,
                                     .k = D,
                                     .a = s.k,
                                     .a_row = padded,
                                     .a_col = 1,
                                     .b = s.q_t + lane,
                                     .b_row = kQueryTile,
                                     .c = s.probabilities + lane,
                                     .c_row = kQueryTile,
                                     .accumulate = false});
      Multiply<isa, Terms::kAll, T>({.m = limit,
                                     .n = width,
                                     .k = D,
                                     .a = s.v,
                                     .a_row = padded,
                                     .a_col = 1,
                                     .b = s.dout_t + lane,
                                     .b_row = kQueryTile,
                                     .c = s.dscores + lane,
                                     .c_row = kQueryTile,
                                     .accumulate = false});
      for (std::int64_t strip = lane; strip < lane + width; strip += L) ScoreGradients<isa>(p, q, keys, b, h, strip, limit, s);
      Multiply<isa, Terms::kBeforeColumn, T>({.m = D,
                                              .n = width,
                                              .k = limit,
                                              .a = s.k,
                                              .a_row = 1,
                                              .a_col = padded,
                                              .b = s.dscores + lane,
                                              .b_row = kQueryTile,
                                              .c = s.dq_t + lane,
                                              .c_row = kQueryTile,
                                              .accumulate = true,
                                              .edge = keys.visible_to_lane_0 + lane});
    }
    turns.Await(keys.begin);
    AddKeyGradients<isa, T>(args, q, keys, b, g, s);
    turns.Pass(keys.begin);
  });

  for (std::int64_t r = 0; r < rows; ++r) {
    T* dq = RowsOf<T>(args.dq, b, q.begin + r, h);
    for (std::int64_t d = 0; d < D; ++d) dq[d] = s.dq_t[d * kQueryTile + r] * static_cast<T>(p.scale);
  }
}

}  // namespace

template <typename T>
void BackwardTile(const AttentionBackwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h, const BackwardScratch<T>& scratch,
                  const KeyTurns& turns) {
  ForBestIsa([&](auto isa) LYCIA_INLINE { TileOn<decltype(isa)::value, T>(args, q, b, h, scratch, turns); });
}

template void BackwardTile(const AttentionBackwardArgs&, const QueryTile&, std::int64_t, std::int64_t, const BackwardScratch<float>&,
                           const KeyTurns&);
template void BackwardTile(const AttentionBackwardArgs&, const QueryTile&, std::int64_t, std::int64_t, const BackwardScratch<double>&,
                           const KeyTurns&);

}  // namespace lycia::cpu
