// For tests: what bf16 itself costs attention: the formulas of attention_ref.h with probabilities, out, dscores and the gradients rounded
// to bf16, and everything between them exact.
#ifndef LYCIA_KERNELS_ATTENTION_ATTENTION_ROUNDED_H_
#define LYCIA_KERNELS_ATTENTION_ATTENTION_ROUNDED_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/attention/attention_ref.h"
#include "runtime/core/bfloat16.h"

namespace lycia {

inline std::uint16_t ToBf16(double x) { return BFloat16(static_cast<float>(x)).bits; }
inline double FromBf16(std::uint16_t word) { return static_cast<float>(BFloat16::FromBits(word)); }

struct AttentionResults {
  std::vector<double> out, log_sum_exp, dq, dk, dv;
};
inline AttentionResults RoundedAttention(const AttentionProblem& p, const std::vector<double>& q, const std::vector<double>& k,
                                         const std::vector<double>& v, const std::vector<double>& dout) {
  const auto round = [](double x) { return FromBf16(ToBf16(x)); };
  AttentionResults r{std::vector<double>(q.size()), std::vector<double>(static_cast<std::size_t>(p.samples * p.heads * p.queries)),
                     std::vector<double>(q.size()), std::vector<double>(k.size()), std::vector<double>(v.size())};
  reference::AttentionForward(p, q.data(), k.data(), v.data(), r.out.data(), r.log_sum_exp.data());
  for (double& x : r.out) x = 0;
  for (std::int64_t b = 0; b < p.samples; ++b) {
    for (std::int64_t h = 0; h < p.heads; ++h) {
      for (std::int64_t t = 0; t < p.queries; ++t) {
        const std::vector<double> scores = reference::Scores(p, q.data(), k.data(), b, t, h);
        const auto at = [&](std::int64_t s) {
          return static_cast<std::size_t>(((b * p.keys + s) * p.kv_heads + h / (p.heads / p.kv_heads)) * p.head_dim);
        };
        const auto row = static_cast<std::size_t>(((b * p.queries + t) * p.heads + h) * p.head_dim),
                   D = static_cast<std::size_t>(p.head_dim);
        const double log_sum_exp = r.log_sum_exp[static_cast<std::size_t>((b * p.heads + h) * p.queries + t)];
        std::vector<double> probability(scores.size());
        for (std::int64_t s = 0; s < p.keys; ++s) {
          if (!reference::Visible(p, t, s)) continue;
          const double x = probability[static_cast<std::size_t>(s)] = round(std::exp(scores[static_cast<std::size_t>(s)] - log_sum_exp));
          const double kept = x * reference::DropoutFactor(p, b, h, t, s);
          for (std::size_t d = 0; d < D; ++d) r.out[row + d] += kept * v[at(s) + d];
        }
        double delta = 0;
        for (std::size_t d = 0; d < D; ++d) delta += dout[row + d] * (r.out[row + d] = round(r.out[row + d]));
        for (std::int64_t s = 0; s < p.keys; ++s) {
          const double x = probability[static_cast<std::size_t>(s)];
          if (x == 0) continue;
          double dx = 0;
          const double factor = reference::DropoutFactor(p, b, h, t, s);
          for (std::size_t d = 0; d < D; ++d) dx += factor * dout[row + d] * v[at(s) + d];
          const double dscore = round(x * (dx - delta));
          for (std::size_t d = 0; d < D; ++d) {
            r.dv[at(s) + d] += factor * x * dout[row + d];
            r.dk[at(s) + d] += p.scale * dscore * q[row + d];
            r.dq[row + d] += p.scale * dscore * k[at(s) + d];
          }
        }
      }
    }
  }
  for (std::vector<double>* gradient : {&r.dq, &r.dk, &r.dv}) {
    for (double& x : *gradient) x = round(x);
  }
  return r;
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ATTENTION_ATTENTION_ROUNDED_H_
