// Convolution, batch norm, pools and their derivatives as the plainest loops, for the serial truth only (plain_ops.h).
#ifndef LYCIA_TESTS_TRUTH_PLAIN_IMAGE_OPS_H_
#define LYCIA_TESTS_TRUTH_PLAIN_IMAGE_OPS_H_

#include <cmath>
#include <cstddef>

#include "tests/truth/plain_ops.h"

namespace lycia::truth {

// [n, h, w, c], channels innermost.
template <typename N>
struct Images {
  std::size_t n = 0, h = 1, w = 1, c = 1;
  Vector<N> x;

  std::size_t pixels() const { return n * h * w; }
  static Images Zero(std::size_t n, std::size_t h, std::size_t w, std::size_t c) { return {n, h, w, c, Vector<N>(n * h * w * c)}; }
};

// A square that steps over an image with zeros (or, for a maximum, nothing) around it.
struct Window {
  std::size_t size = 1, stride = 1, pad = 0;
  std::size_t Out(std::size_t in) const { return (in + 2 * pad - size) / stride + 1; }
};

// f(output pixel, place in the window, input pixel) wherever the window is on the image.
template <typename N>
void ForEachPlace(const Images<N>& in, const Window& window, const auto& f) {
  const std::size_t P = window.Out(in.h), Q = window.Out(in.w);
  for (std::size_t o = 0; o < in.n * P * Q; ++o) {
    const std::size_t n = o / (P * Q), p = o / Q % P, q = o % Q;
    for (std::size_t place = 0; place < window.size * window.size; ++place) {
      const std::size_t y = p * window.stride + place / window.size, x = q * window.stride + place % window.size;
      if (y < window.pad || y >= in.h + window.pad || x < window.pad || x >= in.w + window.pad) continue;
      f(o, place, (n * in.h + y - window.pad) * in.w + x - window.pad);
    }
  }
}

// weight [K, size, size, C].
template <typename N>
Images<N> Convolution(const Images<N>& in, const Vector<N>& weight, const Window& window) {
  const std::size_t C = in.c, taps = window.size * window.size, K = weight.size() / (taps * C);
  Images<N> out = Images<N>::Zero(in.n, window.Out(in.h), window.Out(in.w), K);
  ForEachPlace(in, window, [&](std::size_t o, std::size_t tap, std::size_t i) {
    for (std::size_t k = 0; k < K; ++k) {
      N sum = 0;
      for (std::size_t c = 0; c < C; ++c) sum += in.x[i * C + c] * weight[(k * taps + tap) * C + c];
      out.x[o * K + k] += sum;
    }
  });
  return out;
}

// dweight and din (of in's size) are +=.
template <typename N>
void ConvolutionBackward(const Images<N>& in, const Vector<N>& weight, const Window& window, const Vector<N>& dout, Vector<N>& dweight,
                         Vector<N>& din) {
  const std::size_t C = in.c, taps = window.size * window.size, K = weight.size() / (taps * C);
  ForEachPlace(in, window, [&](std::size_t o, std::size_t tap, std::size_t i) {
    for (std::size_t k = 0; k < K; ++k) {
      const N d = dout[o * K + k];
      for (std::size_t c = 0; c < C; ++c) {
        dweight[(k * taps + tap) * C + c] += d * in.x[i * C + c];
        din[i * C + c] += d * weight[(k * taps + tap) * C + c];
      }
    }
  });
}

// y = (x - mean) rstd gamma + beta of one group of rows of one channel, rstd = 1 / sqrt(variance + 1e-5).
template <typename N>
struct ChannelStatistics {
  N mean = 0, variance = 0, rstd = 0;

  // x of channel c in rows [first, first + rows).
  static ChannelStatistics Of(const Images<N>& in, std::size_t c, std::size_t first, std::size_t rows) {
    ChannelStatistics s;
    const N count = static_cast<N>(static_cast<double>(rows));
    for (std::size_t r = first; r < first + rows; ++r) s.mean += in.x[r * in.c + c] / count;
    for (std::size_t r = first; r < first + rows; ++r) {
      s.variance += (in.x[r * in.c + c] - s.mean) * (in.x[r * in.c + c] - s.mean) / count;
    }
    s.rstd = N(1) / std::sqrt(s.variance + static_cast<N>(1e-5));
    return s;
  }
  // With h = (x - mean) rstd and g = dy gamma: dx += rstd (g - mean(g) - h mean(g h)); dgamma += sum(dy h), dbeta += sum(dy).
  void Backward(const Images<N>& in, std::size_t c, std::size_t first, std::size_t rows, const N& gamma, const Vector<N>& dout, N& dgamma,
                N& dbeta, Vector<N>& din) const {
    N mean_g = 0, mean_gh = 0;
    const N count = static_cast<N>(static_cast<double>(rows));
    const auto h = [&](std::size_t r) { return (in.x[r * in.c + c] - mean) * rstd; };
    for (std::size_t r = first; r < first + rows; ++r) {
      const N d = dout[r * in.c + c];
      dgamma += d * h(r);
      dbeta += d;
      mean_g += d * gamma / count;
      mean_gh += d * gamma * h(r) / count;
    }
    for (std::size_t r = first; r < first + rows; ++r) {
      din[r * in.c + c] += rstd * (dout[r * in.c + c] * gamma - mean_g - h(r) * mean_gh);
    }
  }
};

// The largest of each window; `winner` gets the input element that each came from, the first of equals.
template <typename N>
Images<N> LargestOf(const Images<N>& in, const Window& window, std::vector<std::size_t>& winner) {
  Images<N> out = Images<N>::Zero(in.n, window.Out(in.h), window.Out(in.w), in.c);
  winner.assign(out.x.size(), in.x.size());
  ForEachPlace(in, window, [&](std::size_t o, std::size_t, std::size_t i) {
    for (std::size_t c = 0; c < in.c; ++c) {
      std::size_t& best = winner[o * in.c + c];
      if (best == in.x.size() || Real(in.x[i * in.c + c]) > Real(in.x[best])) best = i * in.c + c;
    }
  });
  for (std::size_t i = 0; i < winner.size(); ++i) out.x[i] = in.x[winner[i]];
  return out;
}

}  // namespace lycia::truth

#endif  // LYCIA_TESTS_TRUTH_PLAIN_IMAGE_OPS_H_
