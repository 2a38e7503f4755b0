// Forward attention on the CPU. For each head and tile of queries: scores of one tile of keys at a time, online softmax, times V.
// Queries are the lanes (attention_tile.h). Tiles on the diagonal of a causal mask are cut into strips of one vector of queries, each
// multiplied with the keys it sees only; of those that only some of its queries see, the others take nothing, be it a NaN.
#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_head.h"
#include "kernels/attention/attention_scratch.h"
#include "kernels/attention/attention_softmax.h"
#include "kernels/attention/attention_tile.h"

namespace lycia::cpu {
namespace {

// out = out_t / sum, back to rows.
template <typename T>
LYCIA_INLINE inline void WriteRows(const AttentionForwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h,
                                   const ForwardScratch<T>& s) {
  const AttentionProblem& p = args.problem;
  T* log_sum_exp = args.log_sum_exp.as<T>() + (b * p.heads + h) * p.queries;
  for (std::int64_t r = 0; r < q.end - q.begin; ++r) {
    const T sum = s.sum[r], inverse = sum == T(0) ? T(0) : T(1) / sum;
    log_sum_exp[q.begin + r] = sum == T(0) ? kMinusInfinity<T> : s.maximum[r] + std::log(sum);
    T* out = RowsOf<T>(args.out, b, q.begin + r, h);
    for (std::int64_t d = 0; d < p.head_dim; ++d) out[d] = s.out_t[d * kQueryTile + r] * inverse;
  }
}

template <Isa isa, typename T>
LYCIA_INLINE inline void TileOn(const AttentionForwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h,
                                const ForwardScratch<T>& s) {
  const AttentionProblem& p = args.problem;
  using V = Vector<T, isa>;
  constexpr std::int64_t L = kLanes<V>;
  const std::int64_t D = p.head_dim, padded = PaddedHead<T>(D), rows = q.end - q.begin, lanes = (rows + L - 1) / L * L;
  const std::int64_t g = h / (p.heads / p.kv_heads);

  PackRows(RowsOf<T>(args.q, b, q.begin, h), args.q.row_stride, rows, D, padded, static_cast<T>(p.scale), s.q);
  TransposeRows(s.q, rows, D, padded, s.q_t);
  for (std::int64_t i = 0; i < kQueryTile; ++i) s.maximum[i] = kMinusInfinity<T>, s.sum[i] = T(0);
  for (std::int64_t i = 0; i < D * kQueryTile; ++i) s.out_t[i] = T(0);

  ForEachKeyTile(p, q, [&](const KeyTile& keys) LYCIA_INLINE {
    PackRows(RowsOf<T>(args.k, b, keys.begin, g), args.k.row_stride, keys.count(), D, padded, T(1), s.k);
    PackRows(RowsOf<T>(args.v, b, keys.begin, g), args.v.row_stride, keys.count(), D, padded, T(1), s.v);
    const bool full = keys.Full();
    const std::int64_t width = full ? lanes : L;
    for (std::int64_t lane = 0; lane < lanes; lane += width) {
      const std::int64_t limit = full ? keys.count() : StripLimit<V>(keys, q, lane);
      if (limit == 0) continue;
      Multiply<isa, Terms::kAll, T>({.m = limit,
                                     .n = width,
                                     .k = D,
                                     .a = s.k,
                                     .a_row = padded,
                                     .a_col = 1,
                                     .b = s.q_t + lane,
                                     .b_row = kQueryTile,
                                     .c = s.scores + lane,
                                     .c_row = kQueryTile,
                                     .accumulate = false});
      for (std::int64_t strip = lane; strip < lane + width; strip += L) {
        T* scores = s.scores + strip;
        if (!full) Hide<V>(keys, strip, limit, kMinusInfinity<T>, scores);
        const V correction = OnlineSoftmax<V>({s.maximum, s.sum}, strip, limit, scores);
        for (std::int64_t d = 0; d < D; ++d) {
          T* out = s.out_t + d * kQueryTile + strip;
          Store<V>(out, Load<V>(out) * correction);
        }
        if (p.dropout.rate == 0) continue;
        DropoutFactors<isa>(p, b, h, q, keys, strip, limit, s.factors + strip);
        for (std::int64_t k = 0; k < limit; ++k) {
          Store<V>(scores + k * kQueryTile, Load<V>(scores + k * kQueryTile) * Load<V>(s.factors + strip + k * kQueryTile));
        }
      }
      Multiply<isa, Terms::kBeforeColumn, T>({.m = D,
                                              .n = width,
                                              .k = limit,
                                              .a = s.v,
                                              .a_row = 1,
                                              .a_col = padded,
                                              .b = s.scores + lane,
                                              .b_row = kQueryTile,
                                              .c = s.out_t + lane,
                                              .c_row = kQueryTile,
                                              .accumulate = true,
                                              .edge = keys.visible_to_lane_0 + lane});
    }
  });
  WriteRows(args, q, b, h, s);
}

}  // namespace

template <typename T>
void ForwardTile(const AttentionForwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h, const ForwardScratch<T>& scratch) {
  ForBestIsa([&](auto isa) LYCIA_INLINE { TileOn<decltype(isa)::value, T>(args, q, b, h, scratch); });
}

template void ForwardTile(const AttentionForwardArgs&, const QueryTile&, std::int64_t, std::int64_t, const ForwardScratch<float>&);
template void ForwardTile(const AttentionForwardArgs&, const QueryTile&, std::int64_t, std::int64_t, const ForwardScratch<double>&);

}  // namespace lycia::cpu
