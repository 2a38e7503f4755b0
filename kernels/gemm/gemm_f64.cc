#include "kernels/gemm/gemm_f64.h"

#include <cblas.h>

#include <cmath>

namespace lycia::cpu {
namespace {

// Our ranks are the parallelism: with one thread in the library the sums have one order.
void UseOneThread() {
  static const bool once = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  (void)once;
}

template <typename M>
auto* Row(const M& matrix, std::int64_t i) {
  using Pointer = std::conditional_t<std::is_same_v<M, Matrix>, double*, const double*>;
  return matrix.data == nullptr ? nullptr : static_cast<Pointer>(matrix.data) + i * matrix.ld;
}

constexpr double kScale = 2 * 0.79788456080286535588, kCubic = 0.044715;  // 2 sqrt(2/pi)

// kernels/activation/gelu.cc, number by number.
double Gelu(double x) { return x / (1 + std::exp(-kScale * (x + kCubic * x * x * x))); }
double GeluSlope(double x) {
  const double e = std::exp(-kScale * (x + kCubic * x * x * x)), s = 1 / (1 + e);
  return s + x * (kScale * (1 + 3 * kCubic * x * x)) * ((e * s) * s);
}

void Finish(const GemmArgs& args) {
  const double* bias = args.bias.data == nullptr ? nullptr : args.bias.as<double>();
  for (std::int64_t i = 0; i < args.c.rows; ++i) {
    double *c = Row(args.c, i), *pre = Row(args.pre_activation, i);
    const double *input = Row(args.gelu_input, i), *residual = Row(args.residual, i);
    for (std::int64_t j = 0; j < args.c.cols; ++j) {
      double s = bias == nullptr ? c[j] : c[j] + bias[j];
      if (pre != nullptr) pre[j] = s;
      if (args.gelu) s = Gelu(s);
      if (input != nullptr) s *= GeluSlope(input[j]);
      c[j] = residual == nullptr ? s : s + residual[j];
    }
  }
}

}  // namespace

void MultiplyF64(const GemmArgs& args) {
  UseOneThread();
  const auto m = static_cast<int>(args.c.rows), n = static_cast<int>(args.c.cols);
  const auto k = static_cast<int>(args.transpose_a ? args.a.rows : args.a.cols);
  const ConstMatrix b = args.packed_b.data == nullptr ? args.b : ConstMatrix(args.packed_b.data, DType::kF64, k, n, n);
  const bool transpose_b = args.packed_b.data == nullptr && args.transpose_b;
  if (k == 0 && !args.accumulate) {
    for (std::int64_t i = 0; i < m; ++i) std::fill_n(Row(args.c, i), n, 0.0);
  }
  if (k > 0) {
    cblas_dgemm(CblasRowMajor, args.transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k, 1.0,
                Row(args.a, 0), static_cast<int>(args.a.ld), Row(b, 0), static_cast<int>(b.ld), args.accumulate ? 1.0 : 0.0, Row(args.c, 0),
                static_cast<int>(args.c.ld));
  }
  Finish(args);
}

void PackF64(const PackMatrixArgs& args) {
  auto* to = static_cast<double*>(args.to.data);
  const auto* from = static_cast<const double*>(args.b.data);
  for (std::int64_t p = 0; p < args.to.k; ++p) {
    for (std::int64_t j = 0; j < args.to.n; ++j)
      to[p * args.to.n + j] = args.transpose_b ? from[j * args.b.ld + p] : from[p * args.b.ld + j];
  }
}

}  // namespace lycia::cpu
