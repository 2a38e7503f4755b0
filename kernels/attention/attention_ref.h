// The specification of attention.h: every query against every key, no tiles. N is float, double or std::complex<double>.
// Tensors are contiguous: q, out [B, T, H, D]; k, v [B, S, G, D]; log_sum_exp [B, H, T].
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_REF_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_REF_H_

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/attention/attention.h"

namespace lycia::reference {

inline bool Visible(const AttentionProblem& p, std::int64_t query, std::int64_t key) {
  if (p.mask == MaskKind::kCausal && p.first_key + key > p.first_query + query) return false;
  for (const std::int32_t offset : p.sequence_offsets) {
    if ((query < offset) != (key < offset)) return false;  // an offset lies between them
  }
  if (p.blocks.block == 0) return true;
  const auto block = static_cast<std::size_t>(query / p.blocks.block);
  const auto listed = p.blocks.key_blocks.subspan(static_cast<std::size_t>(p.blocks.first[block]),
                                                  static_cast<std::size_t>(p.blocks.first[block + 1] - p.blocks.first[block]));
  return std::find(listed.begin(), listed.end(), key / p.blocks.block) != listed.end();
}

inline double DropoutFactor(const AttentionProblem& p, std::int64_t b, std::int64_t h, std::int64_t query, std::int64_t key) {
  const AttentionDropout& d = p.dropout;
  const std::int64_t row = (d.first_sample + b) * d.total_heads + d.first_head + h;
  const std::int64_t index = (row * d.length + p.first_query + query) * d.length + p.first_key + key;
  if (d.rate == 0) return 1;
  return d.random.Uniform(static_cast<std::uint64_t>(index)) >= d.rate ? 1 / (1 - d.rate) : 0;
}

// scores[s] = scale q[b][t][h] . k[b][s][h / (H / G)] for every key.
template <typename N>
std::vector<N> Scores(const AttentionProblem& p, const N* q, const N* k, std::int64_t b, std::int64_t t, std::int64_t h) {
  std::vector<N> scores(static_cast<std::size_t>(p.keys), N(0));
  const std::int64_t g = h / (p.heads / p.kv_heads);
  for (std::int64_t s = 0; s < p.keys; ++s) {
    for (std::int64_t d = 0; d < p.head_dim; ++d) {
      scores[static_cast<std::size_t>(s)] +=
          N(p.scale) * q[((b * p.queries + t) * p.heads + h) * p.head_dim + d] * k[((b * p.keys + s) * p.kv_heads + g) * p.head_dim + d];
    }
  }
  return scores;
}

template <typename N>
void AttentionForward(const AttentionProblem& p, const N* q, const N* k, const N* v, N* out, N* log_sum_exp) {
  using std::exp, std::log, std::real;
  for (std::int64_t b = 0; b < p.samples; ++b) {
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const std::int64_t g = h / (p.heads / p.kv_heads);
      for (std::int64_t t = 0; t < p.queries; ++t) {
        const std::vector<N> scores = Scores(p, q, k, b, t, h);
        double shift = -std::numeric_limits<double>::infinity();
        for (std::int64_t s = 0; s < p.keys; ++s) {
          if (Visible(p, t, s)) shift = std::max(shift, static_cast<double>(real(scores[static_cast<std::size_t>(s)])));
        }
        N sum = 0;
        N* row = out + ((b * p.queries + t) * p.heads + h) * p.head_dim;
        for (std::int64_t d = 0; d < p.head_dim; ++d) row[d] = N(0);
        for (std::int64_t s = 0; s < p.keys; ++s) {
          if (!Visible(p, t, s)) continue;
          const N e = exp(scores[static_cast<std::size_t>(s)] - N(shift));
          sum += e;
          for (std::int64_t d = 0; d < p.head_dim; ++d) {
            row[d] += e * N(DropoutFactor(p, b, h, t, s)) * v[((b * p.keys + s) * p.kv_heads + g) * p.head_dim + d];
          }
        }
        const bool none = shift == -std::numeric_limits<double>::infinity();
        for (std::int64_t d = 0; d < p.head_dim; ++d) row[d] = none ? N(0) : row[d] / sum;
        log_sum_exp[(b * p.heads + h) * p.queries + t] = none ? N(shift) : log(sum) + N(shift);
      }
    }
  }
}

// The softmax's rule: with p = softmax(s) and dp its gradient, ds = p (dp - sum over keys of p dp). dq, dk and dv are set.
template <typename N>
void AttentionBackward(const AttentionProblem& p, const N* q, const N* k, const N* v, const N* dout, N* dq, N* dk, N* dv) {
  using std::exp;
  const std::int64_t D = p.head_dim;
  std::vector<N> out(static_cast<std::size_t>(p.samples * p.queries * p.heads * D)),
      log_sum_exp(static_cast<std::size_t>(p.samples * p.heads * p.queries));
  AttentionForward(p, q, k, v, out.data(), log_sum_exp.data());
  std::fill_n(dq, p.samples * p.queries * p.heads * D, N(0));
  std::fill_n(dk, p.samples * p.keys * p.kv_heads * D, N(0));
  std::fill_n(dv, p.samples * p.keys * p.kv_heads * D, N(0));
  for (std::int64_t b = 0; b < p.samples; ++b) {
    for (std::int64_t h = 0; h < p.heads; ++h) {
      for (std::int64_t t = 0; t < p.queries; ++t) {
        const std::vector<N> scores = Scores(p, q, k, b, t, h);
        const std::int64_t q_row = ((b * p.queries + t) * p.heads + h) * D;
        std::vector<N> probability(scores.size(), N(0)), dprobability(scores.size(), N(0));
        N sum = 0;
        for (std::int64_t s = 0; s < p.keys; ++s) {
          if (!Visible(p, t, s)) continue;
          const auto i = static_cast<std::size_t>(s);
          const std::int64_t k_row = ((b * p.keys + s) * p.kv_heads + h / (p.heads / p.kv_heads)) * D;
          const N factor = N(DropoutFactor(p, b, h, t, s));
          probability[i] = exp(scores[i] - log_sum_exp[static_cast<std::size_t>((b * p.heads + h) * p.queries + t)]);
          for (std::int64_t d = 0; d < D; ++d) {
            dprobability[i] += factor * dout[q_row + d] * v[k_row + d];
            dv[k_row + d] += factor * probability[i] * dout[q_row + d];
          }
          sum += probability[i] * dprobability[i];
        }
        for (std::int64_t s = 0; s < p.keys; ++s) {
          const auto i = static_cast<std::size_t>(s);
          const std::int64_t k_row = ((b * p.keys + s) * p.kv_heads + h / (p.heads / p.kv_heads)) * D;
          const N dscore = N(p.scale) * probability[i] * (dprobability[i] - sum);
          for (std::int64_t d = 0; d < D; ++d) {
            dq[q_row + d] += dscore * k[k_row + d];
            dk[k_row + d] += dscore * q[q_row + d];
          }
        }
      }
    }
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_REF_H_
