// Causal multi-head attention with dropout and its derivative, probabilities materialised, for the serial truth only.
#ifndef LYCIA_TESTS_TRUTH_PLAIN_ATTENTION_H_
#define LYCIA_TESTS_TRUTH_PLAIN_ATTENTION_H_

#include <cmath>
#include <complex>
#include <cstddef>

#include "tests/truth/plain_ops.h"

namespace lycia::truth {

// B samples of T tokens, H heads of size D, G key/value heads; head h reads key head h / (H / G). qkv is [B, T, (H + 2 G) D]: the heads of
// q, then of k, then of v; mixed [B, T, H, D], probabilities (before dropout) and mask [B, H, T, T]; mask is what dropout multiplies with.
template <typename N>
struct Attention {
  std::size_t B, T, H, D, G = H;
  N scale = static_cast<N>(1 / std::sqrt(static_cast<double>(D)));

  // First element of what head h reads of q, k or v (part 0, 1, 2); of mixed; of a row of probabilities.
  std::size_t InQkv(std::size_t b, std::size_t t, std::size_t part, std::size_t h) const {
    const std::size_t head = part == 0 ? h : H + (part - 1) * G + h / (H / G);
    return ((b * T + t) * (H + 2 * G) + head) * D;
  }
  std::size_t InMixed(std::size_t b, std::size_t t, std::size_t h) const { return ((b * T + t) * H + h) * D; }
  std::size_t RowOf(std::size_t b, std::size_t h, std::size_t query) const { return ((b * H + h) * T + query) * T; }

  // q and k of token t with features d and d + D/2 of every head taken as a complex number and multiplied by exp(sign i t base^(-2 d / D))
  // (Su et al. 2021, eq. 15); v as it was. What maps q and k with sign 1 maps their gradients with sign -1: the transpose.
  Vector<N> Turned(Vector<N> qkv, double base, int sign) const {
    for (std::size_t i = 0; i < B * T * (H + G) * (D / 2); ++i) {
      const std::size_t d = i % (D / 2), head = i / (D / 2) % (H + G), token = i / (D / 2) / (H + G);
      const std::complex<double> turn = std::polar(1.0, sign * static_cast<double>(token % T) / std::pow(base, 2.0 * static_cast<double>(d) / static_cast<double>(D)));
      N &real = qkv[(token * (H + 2 * G) + head) * D + d], &imaginary = qkv[(token * (H + 2 * G) + head) * D + d + D / 2];
      const N before = real;
      real = before * static_cast<N>(turn.real()) - imaginary * static_cast<N>(turn.imag());
      imaginary = before * static_cast<N>(turn.imag()) + imaginary * static_cast<N>(turn.real());
    }
    return qkv;
  }

  // Returns mixed.
  Vector<N> Forward(const Vector<N>& qkv, const Vector<N>& mask, Vector<N>& probabilities) const {
    Vector<N> mixed(B * T * H * D);
    probabilities.assign(B * H * T * T, N(0));
    for (std::size_t i = 0; i < B * H * T; ++i) {
      const std::size_t b = i / T / H, h = i / T % H, query = i % T, row = RowOf(b, h, query);
      for (std::size_t key = 0; key <= query; ++key) {
        N score = 0;
        for (std::size_t d = 0; d < D; ++d) score += qkv[InQkv(b, query, 0, h) + d] * qkv[InQkv(b, key, 1, h) + d];
        probabilities[row + key] = score * scale;
      }
      Softmax(&probabilities[row], query + 1);
      for (std::size_t key = 0; key <= query; ++key) {
        const N kept = probabilities[row + key] * mask[row + key];
        for (std::size_t d = 0; d < D; ++d) mixed[InMixed(b, query, h) + d] += kept * qkv[InQkv(b, key, 2, h) + d];
      }
    }
    return mixed;
  }

  // Returns dqkv. With dp the gradient of the probabilities p: dscore = p (dp - sum(p dp)).
  Vector<N> Backward(const Vector<N>& qkv, const Vector<N>& mask, const Vector<N>& probabilities, const Vector<N>& dmixed) const {
    Vector<N> dqkv(qkv.size()), dp(T);
    for (std::size_t i = 0; i < B * H * T; ++i) {
      const std::size_t b = i / T / H, h = i / T % H, query = i % T, row = RowOf(b, h, query);
      N sum = 0;
      for (std::size_t key = 0; key <= query; ++key) {
        dp[key] = 0;
        for (std::size_t d = 0; d < D; ++d) {
          const N dkept = dmixed[InMixed(b, query, h) + d] * mask[row + key];
          dp[key] += dkept * qkv[InQkv(b, key, 2, h) + d];
          dqkv[InQkv(b, key, 2, h) + d] += probabilities[row + key] * dkept;
        }
        sum += probabilities[row + key] * dp[key];
      }
      for (std::size_t key = 0; key <= query; ++key) {
        const N dscore = probabilities[row + key] * (dp[key] - sum) * scale;
        for (std::size_t d = 0; d < D; ++d) {
          dqkv[InQkv(b, query, 0, h) + d] += dscore * qkv[InQkv(b, key, 1, h) + d];
          dqkv[InQkv(b, key, 1, h) + d] += dscore * qkv[InQkv(b, query, 0, h) + d];
        }
      }
    }
    return dqkv;
  }
};

}  // namespace lycia::truth

#endif  // LYCIA_TESTS_TRUTH_PLAIN_ATTENTION_H_
