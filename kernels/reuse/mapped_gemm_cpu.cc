#include "kernels/gemm/driver.h"
#include "kernels/gemm/gemm_kernels.h"
#include "kernels/gemm/gemm_product.h"
#include "kernels/gemm/matrix_source.h"
#include "kernels/reuse/gathered_rows.h"
#include "kernels/reuse/mapped_gemm.h"
#include "kernels/reuse/scatter.h"

namespace lycia::cpu {
namespace {

// The first rows of a matrix, absent or not.
template <typename M>
void Trim(const char* name, M& matrix, std::int64_t rows) {
  if (matrix.data == nullptr) return;
  LYCIA_CHECK(matrix.rows >= rows) << name << " has " << matrix.rows << " rows for " << rows << " clusters ";
  matrix.rows = rows;
}

// The BLAS takes no list: row by row. f64 proves, and is not fast.
void MultiplyRowsF64(Stream& stream, const IndexMap& map, const ConstMatrix& a, const GemmArgs& whole) {
  const auto row_of = [](auto matrix, std::int64_t row) {
    if (matrix.data == nullptr) return matrix;
    using Pointer = std::conditional_t<std::is_same_v<decltype(matrix), Matrix>, double*, const double*>;
    matrix.data = static_cast<Pointer>(matrix.data) + row * matrix.ld;
    matrix.rows = 1;
    return matrix;
  };
  for (std::int64_t j = 0; j < whole.c.rows; ++j) {
    GemmArgs one = whole;
    one.a = row_of(a, map.representatives[j]);
    one.c = row_of(whole.c, j);
    one.residual = row_of(whole.residual, j);
    one.pre_activation = row_of(whole.pre_activation, j);
    one.gelu_input = row_of(whole.gelu_input, j);
    cpu::Gemm(stream, one);
  }
}
void MultiplyDepthF64(Stream& stream, const IndexMap& map, const ConstMatrix& a, const GemmArgs& whole) {
  GemmArgs one = whole;
  for (std::int64_t j = 0; j < whole.b.rows; ++j) {
    one.a = {static_cast<const double*>(a.data) + map.representatives[j] * a.ld, a.dtype, 1, a.cols, a.ld};
    one.b = {static_cast<const double*>(whole.b.data) + j * whole.b.ld, whole.b.dtype, 1, whole.b.cols, whole.b.ld};
    cpu::Gemm(stream, one);
    one.accumulate = true;
  }
}

void MultiplyRows(Stream& stream, const MappedGemmArgs& args, std::int64_t clusters) {
  GemmArgs gemm = args.gemm;
  Trim("c", gemm.c, clusters);
  Trim("residual", gemm.residual, clusters);
  Trim("pre_activation", gemm.pre_activation, clusters);
  Trim("gelu_input", gemm.gelu_input, clusters);
  if (!args.gather_a) {
    LYCIA_CHECK(!gemm.transpose_a) << "rows of c that are a partition's are rows of a ";
    Trim("a", gemm.a, clusters);
    return cpu::Gemm(stream, gemm);
  }
  const ConstMatrix a = gemm.a;
  LYCIA_CHECK(!gemm.transpose_a && a.rows == args.map.extent) << "a has " << a.rows << " rows for " << args.map.ToString() << " ";
  gemm.a.rows = clusters;
  CheckGemm(gemm);
  if (clusters == 0 || gemm.c.cols == 0) return;
  if (a.dtype == DType::kF64) return MultiplyRowsF64(stream, args.map, a, gemm);
  const GatheredAsRows rows = {
      {static_cast<const char*>(a.data), a.ld, a.dtype == DType::kBF16, args.map.representatives, clusters, a.cols}};
  const MatrixSource b = MatrixAsB(gemm.b, gemm.transpose_b);
  MultiplyBlocked(SelectedKernel(a.dtype),
                  {.rows = clusters,
                   .cols = {.length = gemm.c.cols},
                   .depth = {.length = a.cols},
                   .a = PackerOf(rows, false),
                   .b = PackerOf(b, !b.k_contiguous),
                   .packed_b = gemm.packed_b.data,
                   .to = EpilogueOf(gemm)},
                  *stream.pool());
}

void MultiplyDepth(Stream& stream, const MappedGemmArgs& args, std::int64_t clusters) {
  GemmArgs gemm = args.gemm;
  LYCIA_CHECK(gemm.transpose_a && !gemm.transpose_b && gemm.packed_b.data == nullptr)
      << "a depth that is a partition's is the rows of a [U, m] and of b [U, n] ";
  LYCIA_CHECK(gemm.bias.data == nullptr && gemm.residual.data == nullptr && !gemm.gelu && gemm.pre_activation.data == nullptr &&
              gemm.gelu_input.data == nullptr)
      << "a product over a partition has no epilogue but accumulate ";
  Trim("b", gemm.b, clusters);
  if (!args.gather_a) {
    Trim("a", gemm.a, clusters);
    return cpu::Gemm(stream, gemm);
  }
  const ConstMatrix a = gemm.a;
  LYCIA_CHECK(a.rows == args.map.extent) << "a has " << a.rows << " rows for " << args.map.ToString() << " ";
  gemm.a.rows = clusters;
  CheckGemm(gemm);
  if (gemm.c.rows == 0 || gemm.c.cols == 0) return;
  if (clusters == 0) return cpu::Gemm(stream, gemm);
  if (a.dtype == DType::kF64) return MultiplyDepthF64(stream, args.map, a, gemm);
  const GatheredAsDepth depth = {
      {static_cast<const char*>(a.data), a.ld, a.dtype == DType::kBF16, args.map.representatives, clusters, a.cols}};
  const MatrixSource b = MatrixAsB(gemm.b, false);
  MultiplyBlocked(SelectedKernel(a.dtype),
                  {.rows = gemm.c.rows,
                   .cols = {.length = gemm.c.cols},
                   .depth = {.length = clusters},
                   .a = PackerOf(depth, true),
                   .b = PackerOf(b, true),
                   .to = EpilogueOf(gemm)},
                  *stream.pool());
}

}  // namespace

void MappedGemm(Stream& stream, const MappedGemmArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "MappedGemm")) return;
  const std::int64_t clusters = *args.map.size;
  if (args.over == MappedOver::kDepth) {
    LYCIA_CHECK(args.scattered.data == nullptr) << "a product over a partition has no rows to give back ";
    return MultiplyDepth(stream, args, clusters);
  }
  MultiplyRows(stream, args, clusters);
  if (args.scattered.data != nullptr) cpu::ScatterRows(stream, {.map = args.map, .c = args.gemm.c, .y = args.scattered});
}

}  // namespace lycia::cpu
