// The formulas of GPT-2 and Llama and their derivatives as the plainest loops, for the serial truth only. They are not the reference kernels of
// kernels/, so an error there cannot hide here. N is float, double or std::complex<double>; matrices are row-major vectors.
#ifndef LYCIA_TESTS_TRUTH_PLAIN_OPS_H_
#define LYCIA_TESTS_TRUTH_PLAIN_OPS_H_

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <vector>

namespace lycia::truth {

template <typename N>
using Vector = std::vector<N>;

inline double Real(double x) { return x; }
inline double Real(const std::complex<double>& x) { return x.real(); }

// y[M, O] = x[M, K] w[K, O] + b[O]
template <typename N>
Vector<N> Linear(const Vector<N>& x, const Vector<N>& w, const Vector<N>& b) {
  const std::size_t O = b.size(), K = w.size() / O, M = x.size() / K;
  Vector<N> y(M * O);
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t o = 0; o < O; ++o) y[m * O + o] = b[o];
    for (std::size_t k = 0; k < K; ++k) {
      for (std::size_t o = 0; o < O; ++o) y[m * O + o] += x[m * K + k] * w[k * O + o];
    }
  }
  return y;
}

// Returns dx; dw and db are +=.
template <typename N>
Vector<N> LinearBackward(const Vector<N>& x, const Vector<N>& w, const Vector<N>& dy, Vector<N>& dw, Vector<N>& db) {
  const std::size_t O = db.size(), K = w.size() / O, M = x.size() / K;
  Vector<N> dx(x.size());
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t o = 0; o < O; ++o) db[o] += dy[m * O + o];
    for (std::size_t k = 0; k < K; ++k) {
      for (std::size_t o = 0; o < O; ++o) {
        dx[m * K + k] += dy[m * O + o] * w[k * O + o];
        dw[k * O + o] += x[m * K + k] * dy[m * O + o];
      }
    }
  }
  return dx;
}

// w[rows, cols] transposed.
template <typename N>
Vector<N> Transposed(const Vector<N>& w, std::size_t cols) {
  const std::size_t rows = w.size() / cols;
  Vector<N> result(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) result[i % cols * rows + i / cols] = w[i];
  return result;
}

// y = (x - mean) rstd weight + bias over rows of weight.size(). Backward returns dx; dweight and dbias are +=.
template <typename N>
struct LayerNorm {
  const Vector<N>& x;
  const Vector<N>& weight;
  double eps = 1e-5;
  std::size_t width = weight.size();

  // x of the row at `row`, normalised; rstd = 1 / sqrt(variance + eps).
  Vector<N> Normalised(std::size_t row, N& rstd) const {
    N mean = 0, variance = 0;
    Vector<N> h(width);
    for (std::size_t c = 0; c < width; ++c) mean += x[row + c] / static_cast<N>(width);
    for (std::size_t c = 0; c < width; ++c) variance += (x[row + c] - mean) * (x[row + c] - mean) / static_cast<N>(width);
    rstd = N(1) / std::sqrt(variance + static_cast<N>(eps));
    for (std::size_t c = 0; c < width; ++c) h[c] = (x[row + c] - mean) * rstd;
    return h;
  }
  Vector<N> Forward(const Vector<N>& bias) const {
    Vector<N> y(x.size());
    for (std::size_t row = 0; row < x.size(); row += width) {
      N rstd;
      const Vector<N> h = Normalised(row, rstd);
      for (std::size_t c = 0; c < width; ++c) y[row + c] = h[c] * weight[c] + bias[c];
    }
    return y;
  }
  // With g = dy weight: dx = rstd (g - mean(g) - h mean(g h)).
  Vector<N> Backward(const Vector<N>& dy, Vector<N>& dweight, Vector<N>& dbias) const {
    Vector<N> dx(x.size());
    for (std::size_t row = 0; row < x.size(); row += width) {
      N rstd, mean_g = 0, mean_gh = 0;
      const Vector<N> h = Normalised(row, rstd);
      for (std::size_t c = 0; c < width; ++c) {
        mean_g += dy[row + c] * weight[c] / static_cast<N>(width);
        mean_gh += dy[row + c] * weight[c] * h[c] / static_cast<N>(width);
        dweight[c] += dy[row + c] * h[c];
        dbias[c] += dy[row + c];
      }
      for (std::size_t c = 0; c < width; ++c) dx[row + c] = rstd * (dy[row + c] * weight[c] - mean_g - h[c] * mean_gh);
    }
    return dx;
  }
};

// y = x r weight with r = 1 / sqrt(mean(x^2) + eps) over rows of weight.size() (Zhang & Sennrich 2019). Backward returns dx = r (g - h mean(g
// h)) with g = dy weight and h = x r; dweight is +=.
template <typename N>
struct RmsNorm {
  const Vector<N>& x;
  const Vector<N>& weight;
  double eps = 1e-5;
  std::size_t width = weight.size();

  N ReciprocalOf(std::size_t row) const {
    N squares = 0;
    for (std::size_t c = 0; c < width; ++c) squares += x[row + c] * x[row + c];
    return N(1) / std::sqrt(squares / static_cast<N>(width) + static_cast<N>(eps));
  }
  Vector<N> Forward() const {
    Vector<N> y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * ReciprocalOf(i / width * width) * weight[i % width];
    return y;
  }
  Vector<N> Backward(const Vector<N>& dy, Vector<N>& dweight) const {
    Vector<N> dx(x.size());
    for (std::size_t row = 0; row < x.size(); row += width) {
      const N r = ReciprocalOf(row);
      N mean_gh = 0;
      for (std::size_t c = 0; c < width; ++c) {
        mean_gh += dy[row + c] * weight[c] * x[row + c] * r / static_cast<N>(width);
        dweight[c] += dy[row + c] * x[row + c] * r;
      }
      for (std::size_t c = 0; c < width; ++c) dx[row + c] = r * (dy[row + c] * weight[c] - x[row + c] * r * mean_gh);
    }
    return dx;
  }
};

// Rows [gate | up] of 2 F numbers become silu(gate) up, F numbers (Shazeer 2020), with silu(g) = g s, s = 1 / (1 + exp(-g)); its derivative
// is s (1 + g (1 - s)).
template <typename N>
Vector<N> SwiGlu(const Vector<N>& in, std::size_t F) {
  Vector<N> y(in.size() / 2);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const N gate = in[i / F * 2 * F + i % F], up = in[i / F * 2 * F + F + i % F];
    y[i] = gate / (N(1) + std::exp(-gate)) * up;
  }
  return y;
}
template <typename N>
Vector<N> SwiGluBackward(const Vector<N>& in, std::size_t F, const Vector<N>& dy) {
  Vector<N> din(in.size());
  for (std::size_t i = 0; i < dy.size(); ++i) {
    const std::size_t at = i / F * 2 * F + i % F;
    const N gate = in[at], up = in[at + F], s = N(1) / (N(1) + std::exp(-gate));
    din[at] = dy[i] * up * s * (N(1) + gate * (N(1) - s));
    din[at + F] = dy[i] * gate * s;
  }
  return din;
}

// 0.5 x (1 + t) with t = tanh(a (x + b x^3)), and its derivative.
template <typename N>
N GeluTanh(N x) {
  return std::tanh(static_cast<N>(std::sqrt(2 / std::numbers::pi)) * (x + static_cast<N>(0.044715) * x * x * x));
}
template <typename N>
N Gelu(N x) {
  return static_cast<N>(0.5) * x * (N(1) + GeluTanh(x));
}
template <typename N>
N GeluDerivative(N x) {
  const N t = GeluTanh(x), inner = static_cast<N>(std::sqrt(2 / std::numbers::pi)) * (N(1) + static_cast<N>(3 * 0.044715) * x * x);
  return static_cast<N>(0.5) * (N(1) + t) + static_cast<N>(0.5) * x * (N(1) - t * t) * inner;
}

// x[0 .. n) becomes its softmax; returns log(sum of exp(x)).
template <typename N>
N Softmax(N* x, std::size_t n) {
  double largest = Real(x[0]);
  for (std::size_t i = 1; i < n; ++i) largest = std::max(largest, Real(x[i]));
  N sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - static_cast<N>(largest));
  for (std::size_t i = 0; i < n; ++i) x[i] /= sum;
  return std::log(sum) + static_cast<N>(largest);
}

}  // namespace lycia::truth

#endif  // LYCIA_TESTS_TRUTH_PLAIN_OPS_H_
