// Backward attention on the CPU. For each head and tile of queries, and each tile of keys it saw, the probabilities are made again from
// log_sum_exp; then (FlashAttention-2, algorithm 2; f is the dropout factor, delta = sum over d of dout * out)
//
//   p = exp(s - log_sum_exp);  dv += (p f)ᵀ dout;  ds = p (f dout vᵀ - delta);  dq += scale ds k;  dk += scale dsᵀ q
//
// Queries are the lanes, as in the forward. dk and dv of a key head are summed in memory over query heads and tiles, in that fixed order;
// in bf16 in f32 scratch, and rounded once.
#include <cmath>
#include <type_traits>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_scratch.h"
#include "kernels/attention/attention_softmax.h"
#include "kernels/attention/attention_tile.h"
#include "kernels/cpu/vector_loop.h"

namespace lycia::cpu {
namespace {

// Keys of a diagonal tile are multiplied with the queries that see them in groups of this many.
constexpr std::int64_t kKeyGroup = 16;

// The query side of a tile: packed and transposed q (scaled) and dout, delta, log_sum_exp.
template <typename S, typename V, typename T = Element<V>>
LYCIA_INLINE inline void LoadQueries(const AttentionBackwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h,
                                     const BackwardScratch<T>& s) {
  const AttentionProblem& p = args.problem;
  const std::int64_t D = p.head_dim, padded = PaddedHead<T>(D), rows = q.end - q.begin;
  PackRows(RowsOf<S>(args.q, b, q.begin, h), args.q.row_stride, rows, D, padded, static_cast<T>(p.scale), s.q);
  PackRows(RowsOf<S>(args.dout, b, q.begin, h), args.dout.row_stride, rows, D, padded, T(1), s.dout);
  TransposeRows(s.q, rows, D, padded, s.q_t);
  TransposeRows(s.dout, rows, D, padded, s.dout_t);
  const T* log_sum_exp = args.log_sum_exp.as<T>() + (b * p.heads + h) * p.queries;
  for (std::int64_t r = 0; r < kQueryTile; ++r) {
    s.log_sum_exp[r] = r < rows ? log_sum_exp[q.begin + r] : T(0);
    s.delta[r] = T(0);
    if (r >= rows) continue;
    const S* out = RowsOf<S>(args.out, b, q.begin + r, h);
    const T* dout = s.dout + r * padded;
    s.delta[r] = SumVectors<V>(D, [&](auto lanes) LYCIA_INLINE { return lanes.Get(out) * lanes.Get(dout); });
  }
}

// One strip: scores and dout vᵀ -> probabilities (dropped) and dscores.
template <Isa isa, typename T>
LYCIA_INLINE inline void ScoreGradients(const AttentionProblem& p, const QueryTile& q, const KeyTile& keys, std::int64_t b, std::int64_t h,
                                        std::int64_t strip, std::int64_t limit, const BackwardScratch<T>& s) {
  using V = Vector<T, isa>;
  T *probabilities = s.probabilities + strip, *dscores = s.dscores + strip;
  const V log_sum_exp = Load<V>(s.log_sum_exp + strip), delta = Load<V>(s.delta + strip);
  for (std::int64_t k = 0; k < limit; ++k) {
    Store<V>(probabilities + k * kQueryTile, Exp(Load<V>(probabilities + k * kQueryTile) - log_sum_exp));
  }
  if (!keys.Full()) {
    Hide<V>(keys, strip, limit, T(0), probabilities);
    for (std::int64_t k = limit; k < keys.count(); ++k) {
      Store<V>(probabilities + k * kQueryTile, V{});
      Store<V>(dscores + k * kQueryTile, V{});
    }
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

// Where the gradients of one key head are summed: row k at dk + k * dk_row.
template <typename T>
struct KeySums {
  T *dk, *dv;
  std::int64_t dk_row, dv_row;
};

// dv += pᵀ dout and dk += dsᵀ q for the keys of a tile.
template <Isa isa, typename T>
LYCIA_INLINE inline void AddKeyGradients(std::int64_t D, const QueryTile& q, const KeyTile& keys, const KeySums<T>& sums,
                                         const BackwardScratch<T>& s) {
  const std::int64_t padded = PaddedHead<T>(D), rows = q.end - q.begin;
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
                           .c = sums.dv + (keys.begin + k) * sums.dv_row,
                           .c_row = sums.dv_row,
                           .accumulate = true};
    Multiply<isa, T>(product);
    product.a = s.dscores + k * kQueryTile + first_row;
    product.b = s.q + first_row * padded;
    product.c = sums.dk + (keys.begin + k) * sums.dk_row;
    product.c_row = sums.dk_row;
    Multiply<isa, T>(product);
  }
}

// Tensors of S, computed in T.
template <Isa isa, typename S, typename T>
LYCIA_INLINE inline void BackwardTile(const AttentionBackwardArgs& args, const QueryTile& q, std::int64_t b, std::int64_t h,
                                      const KeySums<T>& sums, const BackwardScratch<T>& s) {
  const AttentionProblem& p = args.problem;
  using V = Vector<T, isa>;
  constexpr std::int64_t L = kLanes<V>;
  const std::int64_t D = p.head_dim, padded = PaddedHead<T>(D), rows = q.end - q.begin, lanes = (rows + L - 1) / L * L;
  const std::int64_t g = h / (p.heads / p.kv_heads);
  LoadQueries<S, V>(args, q, b, h, s);
  for (std::int64_t i = 0; i < D * kQueryTile; ++i) s.dq_t[i] = T(0);

  ForEachKeyTile(p, q, [&](const KeyTile& keys) LYCIA_INLINE {
    PackRows(RowsOf<S>(args.k, b, keys.begin, g), args.k.row_stride, keys.count(), D, padded, T(1), s.k);
    PackRows(RowsOf<S>(args.v, b, keys.begin, g), args.v.row_stride, keys.count(), D, padded, T(1), s.v);
    const bool full = keys.Full();
    const std::int64_t width = full ? lanes : L;
    for (std::int64_t lane = 0; lane < lanes; lane += width) {
      const std::int64_t limit = full ? keys.count() : StripLimit<V>(keys, q, lane);
      Multiply<isa, T>({.m = limit,
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
      Multiply<isa, T>({.m = limit,
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
      Multiply<isa, T>({.m = D,
                        .n = width,
                        .k = limit,
                        .a = s.k,
                        .a_row = 1,
                        .a_col = padded,
                        .b = s.dscores + lane,
                        .b_row = kQueryTile,
                        .c = s.dq_t + lane,
                        .c_row = kQueryTile,
                        .accumulate = true});
    }
    AddKeyGradients<isa>(D, q, keys, sums, s);
  });

  for (std::int64_t r = 0; r < rows; ++r) {
    S* dq = RowsOf<S>(args.dq, b, q.begin + r, h);
    for (std::int64_t d = 0; d < D; ++d) dq[d] = static_cast<S>(s.dq_t[d * kQueryTile + r] * static_cast<T>(p.scale));
  }
}

template <typename T>
void ZeroRows(T* rows, std::int64_t row_stride, std::int64_t count, std::int64_t head_dim) {
  for (std::int64_t r = 0; r < count; ++r) std::fill_n(rows + r * row_stride, head_dim, T(0));
}

// The gradients of one key head: summed in place, or in scratch and rounded at the end.
template <typename S, typename T>
KeySums<T> BeginKeySums(const AttentionBackwardArgs& args, std::int64_t b, std::int64_t g, const BackwardScratch<T>& s) {
  const AttentionProblem& p = args.problem;
  const std::int64_t padded = PaddedHead<T>(p.head_dim);
  KeySums<T> sums{s.dk, s.dv, padded, padded};
  if constexpr (std::is_same_v<S, T>) {
    sums = {RowsOf<T>(args.dk, b, 0, g), RowsOf<T>(args.dv, b, 0, g), args.dk.row_stride, args.dv.row_stride};
  }
  ZeroRows(sums.dk, sums.dk_row, p.keys, p.head_dim);
  ZeroRows(sums.dv, sums.dv_row, p.keys, p.head_dim);
  return sums;
}
template <typename S, typename T>
void EndKeySums(const AttentionBackwardArgs& args, std::int64_t b, std::int64_t g, const KeySums<T>& sums) {
  if constexpr (!std::is_same_v<S, T>) {
    for (std::int64_t k = 0; k < args.problem.keys; ++k) {
      S *dk = RowsOf<S>(args.dk, b, k, g), *dv = RowsOf<S>(args.dv, b, k, g);
      for (std::int64_t d = 0; d < args.problem.head_dim; ++d) {
        dk[d] = static_cast<S>(sums.dk[k * sums.dk_row + d]);
        dv[d] = static_cast<S>(sums.dv[k * sums.dv_row + d]);
      }
    }
  }
}

}  // namespace

void AttentionBackward(Stream&, const AttentionBackwardArgs& args) {
  const AttentionProblem& p = args.problem;
  CheckProblem(p, args.scratch, AttentionBackwardScratchBytes(p));
  LYCIA_CHECK_EQ(args.log_sum_exp.elements(), p.samples * p.heads * p.queries);
  DispatchStored(p.dtype, [&]<typename S>() {
    using T = Arithmetic<S>;
    const auto scratch = BackwardScratch<T>::Make(args.scratch.data, p.head_dim, KeySumRows(p));
    const std::int64_t group = p.heads / p.kv_heads;
    for (std::int64_t b = 0; b < p.samples; ++b) {
      for (std::int64_t g = 0; g < p.kv_heads; ++g) {
        const KeySums<T> sums = BeginKeySums<S>(args, b, g, scratch);
        for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
          ForEachQueryTile(p, [&](const QueryTile& q) {
            ForBestIsa([&](auto isa) LYCIA_INLINE { BackwardTile<decltype(isa)::value, S, T>(args, q, b, h, sums, scratch); });
          });
        }
        EndKeySums<S>(args, b, g, sums);
      }
    }
  });
}

}  // namespace lycia::cpu
