#include "kernels/gemm/gemm_f64.h"

#include <cblas.h>

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/vector_logistic.h"

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

// A vector of one number.
typedef double One __attribute__((vector_size(sizeof(double))));

void Finish(const GemmArgs& args) {
  const double* bias = args.bias.data == nullptr ? nullptr : args.bias.as<double>();
  for (std::int64_t i = 0; i < args.c.rows; ++i) {
    double *c = Row(args.c, i), *pre = Row(args.pre_activation, i);
    const double *input = Row(args.gelu_input, i), *residual = Row(args.residual, i);
    for (std::int64_t j = 0; j < args.c.cols; ++j) {
      double s = bias == nullptr ? c[j] : c[j] + bias[j];
      if (pre != nullptr) pre[j] = s;
      if (args.gelu) s = GeluOf<One>(One{s})[0];
      if (input != nullptr) s *= GeluSlopeOf<One>(One{input[j]})[0];
      c[j] = residual == nullptr ? s : s + residual[j];
    }
  }
}

// What stands before the elements of a packed matrix: it lies as b did, so that the BLAS is called, and sums, as without packing.
struct PackedF64 {
  bool transposed;
};

ConstMatrix PackedElements(const PackedMatrix& packed, bool transposed) {
  const void* elements = static_cast<const char*>(packed.data) + kPackedF64Header;
  const std::int64_t rows = transposed ? packed.n : packed.k, cols = transposed ? packed.k : packed.n;
  return {elements, DType::kF64, rows, cols, cols};
}

}  // namespace

void MultiplyF64(const GemmArgs& args) {
  UseOneThread();
  const auto m = static_cast<int>(args.c.rows), n = static_cast<int>(args.c.cols);
  const auto k = static_cast<int>(args.transpose_a ? args.a.rows : args.a.cols);
  ConstMatrix b = args.b;
  bool transpose_b = args.transpose_b;
  if (args.packed_b.data != nullptr) {
    transpose_b = static_cast<const PackedF64*>(args.packed_b.data)->transposed;
    b = PackedElements(args.packed_b, transpose_b);
  }
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
  static_cast<PackedF64*>(args.to.data)->transposed = args.transpose_b;
  auto* to = reinterpret_cast<double*>(static_cast<char*>(args.to.data) + kPackedF64Header);
  for (std::int64_t i = 0; i < args.b.rows; ++i) std::copy_n(Row(args.b, i), args.b.cols, to + i * args.b.cols);
}

}  // namespace lycia::cpu
