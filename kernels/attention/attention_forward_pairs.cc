// Forward attention in bf16 on pairs: scores, online softmax in f32, probabilities rounded to bf16, times V, sums in f32. Panels of queries
// that a causal mask hides from a panel of keys are not multiplied.
#include <cmath>

#include "kernels/attention/attention_pairs.h"
#include "kernels/attention/attention_softmax.h"

namespace lycia::cpu {
namespace {

using V = Vector<float, Isa::kAvx512>;
constexpr std::int64_t L = kLanes<V>;

struct Head {
  const MicroKernel& kernel;
  const AttentionForwardArgs& args;
  PairShape z;
  PairForwardKeys keys;
  PairForwardTile s;
  std::int64_t b, h;
};

// Softmax of the lanes of one panel of queries, and what follows from it: the correction of out_t, dropout, the packed probabilities.
LYCIA_INLINE inline void SoftmaxPanel(const Head& head, const QueryTile& q, const KeyTile& keys, std::int64_t lane, std::int64_t limit,
                                      std::int64_t words) {
  const AttentionProblem& p = head.args.problem;
  const PairForwardTile& s = head.s;
  const float scale = static_cast<float>(p.scale);
  for (std::int64_t strip = lane; strip < lane + head.z.cols; strip += L) {
    float* scores = s.scores + strip;
    for (std::int64_t k = 0; k < limit; ++k) Store<V>(scores + k * kQueryTile, Load<V>(scores + k * kQueryTile) * scale);
    if (!keys.Full()) Hide<V>(keys, strip, limit, kMinusInfinity<float>, scores);
    const V correction = OnlineSoftmax<V>({s.maximum, s.sum}, strip, limit, scores);
    bool moved = false;
    for (int i = 0; i < L; ++i) moved |= correction[i] != 1.0f;
    if (moved) {
      for (std::int64_t d = 0; d < p.head_dim; ++d) {
        float* out = s.out_t + d * kQueryTile + strip;
        Store<V>(out, Load<V>(out) * correction);
      }
    }
    if (p.dropout.rate > 0) {
      DropoutFactors<Isa::kAvx512>(p, head.b, head.h, q, keys, strip, limit, s.factors + strip);
      for (std::int64_t k = 0; k < limit; ++k) {
        Store<V>(scores + k * kQueryTile, Load<V>(scores + k * kQueryTile) * Load<V>(s.factors + strip + k * kQueryTile));
      }
    }
    PackStrip<V>(scores, limit, words, head.z.cols, s.probabilities + lane * kTileWords + (strip - lane));
  }
}

LYCIA_INLINE inline void KeyTileStep(const Head& head, const QueryTile& q, const KeyTile& keys) {
  const PairShape& z = head.z;
  const PairForwardTile& s = head.s;
  const std::int64_t rows = q.end - q.begin, tile = keys.begin / kKeyTile;
  for (std::int64_t lane = 0; lane < rows; lane += z.cols) {
    const std::int64_t limit = keys.Visible(std::min(lane + z.cols, rows) - 1);
    if (limit == 0) continue;
    for (std::int64_t k = 0; k < limit; k += z.rows) {
      head.kernel.tile({.a = head.keys.k + tile * z.by_key() + k * z.head_words,
                        .b = s.q + lane * z.head_words,
                        .words = z.head_words,
                        .c = s.scores + k * kQueryTile + lane,
                        .ld = kQueryTile,
                        .rows = static_cast<int>(std::min(z.rows, limit - k)),
                        .cols = static_cast<int>(z.cols)});
    }
    const std::int64_t unit = head.kernel.word_unit, words = ((limit + 1) / 2 + unit - 1) / unit * unit;
    SoftmaxPanel(head, q, keys, lane, limit, words);
    for (std::int64_t d = 0; d < z.head_dim; d += z.rows) {
      head.kernel.tile({.a = head.keys.v + tile * z.by_feature() + d * kTileWords,
                        .b = s.probabilities + lane * kTileWords,
                        .words = words,
                        .c = s.out_t + d * kQueryTile + lane,
                        .ld = kQueryTile,
                        .rows = static_cast<int>(std::min(z.rows, z.head_dim - d)),
                        .cols = static_cast<int>(z.cols),
                        .add = true});
    }
  }
}

LYCIA_INLINE inline void QueryTileStep(const Head& head, const QueryTile& q) {
  const AttentionProblem& p = head.args.problem;
  const PairForwardTile& s = head.s;
  const std::int64_t rows = q.end - q.begin;
  PackPanels(head.kernel.pack_b,
             {.from = RowsOf<BFloat16>(head.args.q, head.b, q.begin, head.h),
              .ld = head.args.q.row_stride,
              .k_contiguous = true,
              .lanes = rows,
              .depth = p.head_dim,
              .words = head.z.head_words},
             head.z.cols, head.args.q.row_stride, s.q);
  for (std::int64_t i = 0; i < kQueryTile; ++i) s.maximum[i] = kMinusInfinity<float>, s.sum[i] = 0;
  for (std::int64_t i = 0; i < p.head_dim * kQueryTile; i += L) Store<V>(s.out_t + i, V{});
  ForEachKeyTile(p, q, [&](const KeyTile& keys) LYCIA_INLINE { KeyTileStep(head, q, keys); });
  float* log_sum_exp = head.args.log_sum_exp.as<float>() + (head.b * p.heads + head.h) * p.queries;
  for (std::int64_t r = 0; r < rows; ++r) {
    const float sum = s.sum[r], inverse = sum == 0 ? 0 : 1 / sum;
    log_sum_exp[q.begin + r] = sum == 0 ? kMinusInfinity<float> : s.maximum[r] + std::log(sum);
    BFloat16* out = RowsOf<BFloat16>(head.args.out, head.b, q.begin + r, head.h);
    for (std::int64_t d = 0; d < p.head_dim; ++d) out[d] = BFloat16(s.out_t[d * kQueryTile + r] * inverse);
  }
}

}  // namespace

void BeginPairForward(const MicroKernel& kernel, const AttentionForwardArgs& args, const KeyHead& head, const Part& part) {
  const AttentionProblem& p = args.problem;
  const PairShape z = PairShape::Make(kernel, p);
  const PairForwardKeys s = PairForwardKeys::Make(head.memory, z);
  for (std::int64_t tile = part.Begin(z.key_tiles); tile < part.End(z.key_tiles); ++tile) {
    const std::int64_t first = tile * kKeyTile, count = std::min(kKeyTile, p.keys - first);
    PackPanels(kernel.pack_a,
               {.from = RowsOf<BFloat16>(args.k, head.b, first, head.g),
                .ld = args.k.row_stride,
                .k_contiguous = true,
                .lanes = count,
                .depth = p.head_dim,
                .words = z.head_words},
               z.rows, args.k.row_stride, s.k + tile * z.by_key());
    PackPanels(kernel.pack_a,
               {.from = RowsOf<BFloat16>(args.v, head.b, first, head.g),
                .ld = args.v.row_stride,
                .k_contiguous = false,
                .lanes = p.head_dim,
                .depth = count,
                .words = kTileWords},
               z.rows, 1, s.v + tile * z.by_feature());
  }
}

void PairForwardQueries(const MicroKernel& kernel, const AttentionForwardArgs& args, const KeyHead& head, std::int64_t h,
                        const QueryTile& q, void* tile_memory) {
  const PairShape z = PairShape::Make(kernel, args.problem);
  const Head one{kernel, args, z, PairForwardKeys::Make(head.memory, z), PairForwardTile::Make(tile_memory, z), head.b, h};
  if (kernel.begin != nullptr) kernel.begin();
  internal::RunAvx512([&](auto) LYCIA_INLINE { QueryTileStep(one, q); });  // there are no such kernels elsewhere
  if (kernel.end != nullptr) kernel.end();
}

}  // namespace lycia::cpu
