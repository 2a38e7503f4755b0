// Matrix multiply through the BLAS; the additions around it are ours.
#include <cblas.h>

#include <algorithm>

#include "kernels/cpu/vector_loop.h"
#include "kernels/gemm/gemm.h"

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

void Multiply(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, const float* a, int lda, const float* b, int ldb, float beta,
              float* c, int ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
}
void Multiply(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, const double* a, int lda, const double* b, int ldb, double beta,
              double* c, int ldc) {
  cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1.0, a, lda, b, ldb, beta, c, ldc);
}

// Data of a matrix whose type must be T.
template <typename T, typename M>
auto* DataOf(const M& matrix) {
  LYCIA_CHECK(matrix.dtype == DTypeOf<T>::value) << "matrix is " << Name(matrix.dtype) << " ";
  using Pointer = std::conditional_t<std::is_same_v<M, Matrix>, T*, const T*>;
  return static_cast<Pointer>(matrix.data);
}

// What stands in c before the product is added: bias + residual (+ c).
template <typename T>
void Prepare(const GemmArgs& args) {
  const T* bias = args.bias.data == nullptr ? nullptr : args.bias.as<T>();
  const T* residual = args.residual.data == nullptr ? nullptr : DataOf<T>(args.residual);
  T* c = DataOf<T>(args.c);
  ForBestIsa([&](auto isa) LYCIA_INLINE {
    using V = Vector<T, decltype(isa)::value>;
    for (std::int64_t i = 0; i < args.c.rows; ++i) {
      T* row = c + i * args.c.ld;
      const T* added = residual == nullptr ? nullptr : residual + i * args.residual.ld;
      ForEachVector<V>(args.c.cols, [&](auto lanes) LYCIA_INLINE {
        V sum = args.accumulate ? lanes.Get(row) : V{};
        if (bias != nullptr) sum += lanes.Get(bias);
        if (added != nullptr) sum += lanes.Get(added);
        lanes.Put(row, sum);
      });
    }
  });
}

// Column sums of one vector of features: short sums first, as in the layer norm's weight gradient.
constexpr std::int64_t kRowsAtOnce = 64;

template <typename V, bool kWhole, typename T = Element<V>>
LYCIA_INLINE inline void AddColumnSums(const Lanes<V, kWhole>& lanes, const T* dout, std::int64_t rows, std::int64_t ld, T* dbias) {
  V total{};
  for (std::int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    V sum{};
    for (std::int64_t r = begin; r < std::min(begin + kRowsAtOnce, rows); ++r) sum += lanes.Get(dout + r * ld);
    total += sum;
  }
  lanes.Put(dbias, lanes.Get(dbias) + total);
}

}  // namespace

void Gemm(Stream&, const GemmArgs& args) {
  const std::int64_t m = args.c.rows, n = args.c.cols;
  const std::int64_t k = args.transpose_a ? args.a.rows : args.a.cols;
  LYCIA_CHECK_EQ(args.transpose_a ? args.a.cols : args.a.rows, m);
  LYCIA_CHECK_EQ(args.transpose_b ? args.b.cols : args.b.rows, k);
  LYCIA_CHECK_EQ(args.transpose_b ? args.b.rows : args.b.cols, n);
  LYCIA_CHECK(args.a.ld >= args.a.cols && args.b.ld >= args.b.cols && args.c.ld >= n) << "a leading dimension is shorter than its row ";
  LYCIA_CHECK(args.bias.data == nullptr || args.bias.elements() == n) << "bias of " << args.bias.elements() << " for " << n << " columns ";
  LYCIA_CHECK(args.residual.data == nullptr || (args.residual.rows == m && args.residual.cols == n)) << "residual is not [m, n] ";
  if (m == 0 || n == 0) return;
  UseOneThread();
  DispatchFloat(args.c.dtype, [&]<typename T>() {
    const bool prepared = args.bias.data != nullptr || args.residual.data != nullptr || k == 0;
    if (prepared) Prepare<T>(args);
    if (k == 0) return;
    const auto transpose = [](bool yes) { return yes ? CblasTrans : CblasNoTrans; };
    Multiply(transpose(args.transpose_a), transpose(args.transpose_b), static_cast<int>(m), static_cast<int>(n), static_cast<int>(k),
             DataOf<T>(args.a), static_cast<int>(args.a.ld), DataOf<T>(args.b), static_cast<int>(args.b.ld),
             prepared || args.accumulate ? T(1) : T(0), DataOf<T>(args.c), static_cast<int>(args.c.ld));
  });
}

void BiasGradient(Stream&, const BiasGradientArgs& args) {
  LYCIA_CHECK_EQ(args.dbias.elements(), args.dout.cols);
  DispatchFloat(args.dbias.dtype, [&]<typename T>() {
    const T* dout = DataOf<T>(args.dout);
    T* dbias = args.dbias.as<T>();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      ForEachVector<V>(args.dout.cols, [&](auto lanes) LYCIA_INLINE { AddColumnSums(lanes, dout, args.dout.rows, args.dout.ld, dbias); });
    });
  });
}

}  // namespace lycia::cpu
