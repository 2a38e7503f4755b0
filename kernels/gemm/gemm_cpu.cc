// Matrix multiply on the CPU: checks, then our blocked kernels (f32, bf16) or the BLAS (f64).
#include "kernels/gemm/driver.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_f64.h"
#include "kernels/gemm/gemm_kernels.h"
#include "kernels/gemm/gemm_product.h"
#include "kernels/gemm/matrix_source.h"

namespace lycia::cpu {
namespace {

// A matrix besides a, b and c: absent, or of this size and a type that may stand there.
void CheckOperand(const char* name, const ConstMatrix& operand, const GemmArgs& args) {
  if (operand.data == nullptr) return;
  LYCIA_CHECK(operand.rows == args.c.rows && operand.cols == args.c.cols && operand.ld >= operand.cols)
      << name << " is [" << operand.rows << ", " << operand.cols << "], not [m, n] = [" << args.c.rows << ", " << args.c.cols << "] ";
}
void CheckType(const char* name, DType type, const GemmArgs& args) {
  const bool bf16 = args.a.dtype == DType::kBF16;
  LYCIA_CHECK(type == args.a.dtype || (bf16 && type == DType::kF32))
      << name << " is " << Name(type) << " in a product of " << Name(args.a.dtype) << " ";
}

}  // namespace

void CheckGemm(const GemmArgs& args) {
  const std::int64_t m = args.c.rows, n = args.c.cols;
  const std::int64_t k = args.transpose_a ? args.a.rows : args.a.cols;
  LYCIA_CHECK(args.a.dtype == DType::kF32 || args.a.dtype == DType::kF64 || args.a.dtype == DType::kBF16)
      << "a is " << Name(args.a.dtype) << " ";
  LYCIA_CHECK_EQ(args.transpose_a ? args.a.cols : args.a.rows, m);
  if (args.packed_b.data != nullptr) {
    LYCIA_CHECK(args.packed_b.k == k && args.packed_b.n == n)
        << "packed b is [" << args.packed_b.k << ", " << args.packed_b.n << "], not [k, n] = [" << k << ", " << n << "] ";
    LYCIA_CHECK(args.packed_b.dtype == args.a.dtype) << "a is " << Name(args.a.dtype) << ", packed b " << Name(args.packed_b.dtype) << " ";
  } else {
    LYCIA_CHECK_EQ(args.transpose_b ? args.b.cols : args.b.rows, k);
    LYCIA_CHECK_EQ(args.transpose_b ? args.b.rows : args.b.cols, n);
    LYCIA_CHECK(args.b.dtype == args.a.dtype) << "a is " << Name(args.a.dtype) << ", b " << Name(args.b.dtype) << " ";
    LYCIA_CHECK(args.b.ld >= args.b.cols) << "a leading dimension is shorter than its row ";
  }
  LYCIA_CHECK(args.a.ld >= args.a.cols && args.c.ld >= n) << "a leading dimension is shorter than its row ";
  LYCIA_CHECK(args.b_sums.data == nullptr || (args.b_sums.elements() == n && !args.transpose_b && args.b.data != nullptr))
      << "b_sums of " << args.b_sums.elements() << " for " << n << " columns of b, which must be there and not transposed ";
  LYCIA_CHECK(args.bias.data == nullptr || args.bias.elements() == n) << "bias of " << args.bias.elements() << " for " << n << " columns ";
  CheckOperand("residual", args.residual, args);
  CheckOperand("pre_activation", args.pre_activation, args);
  CheckOperand("gelu_input", args.gelu_input, args);
  CheckType("c", args.c.dtype, args);
  if (args.bias.data != nullptr) CheckType("bias", args.bias.dtype, args);
  if (args.residual.data != nullptr) CheckType("residual", args.residual.dtype, args);
  if (args.pre_activation.data != nullptr) CheckType("pre_activation", args.pre_activation.dtype, args);
  if (args.gelu_input.data != nullptr) CheckType("gelu_input", args.gelu_input.dtype, args);
}

EpilogueArgs EpilogueOf(const GemmArgs& args) {
  return {.c = AsOperand(args.c),
          .add_c = args.accumulate,
          .bias = AsOperand(args.bias),
          .gelu = args.gelu,
          .pre = AsOperand(args.pre_activation),
          .gelu_input = AsOperand(args.gelu_input),
          .residual = AsOperand(args.residual)};
}

void Gemm(Stream& stream, const GemmArgs& args) {
  CheckGemm(args);
  if (args.b_sums.data != nullptr) cpu::BiasGradient(stream, {.dout = args.b, .dbias = args.b_sums});
  if (args.c.rows == 0 || args.c.cols == 0) return;
  if (args.a.dtype == DType::kF64) return MultiplyF64(args);
  const MatrixSource a = MatrixAsA(args.a, args.transpose_a), b = MatrixAsB(args.b, args.transpose_b);
  MultiplyBlocked(SelectedKernel(args.a.dtype),
                  {.rows = args.c.rows,
                   .cols = {.length = args.c.cols},
                   .depth = {.length = args.transpose_a ? args.a.rows : args.a.cols},
                   .a = PackerOf(a, !a.k_contiguous),
                   .b = PackerOf(b, !b.k_contiguous),
                   .packed_b = args.packed_b.data,
                   .to = EpilogueOf(args)},
                  *stream.pool());
}

void PackMatrix(Stream& stream, const PackMatrixArgs& args) {
  LYCIA_CHECK_EQ(args.transpose_b ? args.b.cols : args.b.rows, args.to.k);
  LYCIA_CHECK_EQ(args.transpose_b ? args.b.rows : args.b.cols, args.to.n);
  LYCIA_CHECK(args.b.dtype == args.to.dtype) << "b is " << Name(args.b.dtype) << ", packed b " << Name(args.to.dtype) << " ";
  LYCIA_CHECK(args.b.ld >= args.b.cols) << "a leading dimension is shorter than its row ";
  if (args.to.dtype == DType::kF64) return PackF64(args);
  const MatrixSource b = MatrixAsB(args.b, args.transpose_b);
  PackBlocked(SelectedKernel(args.to.dtype),
              {.cols = {.length = args.to.n}, .depth = {.length = args.to.k}, .b = PackerOf(b, !b.k_contiguous), .to = args.to.data},
              *stream.pool());
}

}  // namespace lycia::cpu

namespace lycia {

std::int64_t PackedMatrixBytes(DType dtype, std::int64_t k, std::int64_t n) {
  if (dtype == DType::kF64) return cpu::kPackedF64Header + k * n * SizeOf(dtype);
  if (dtype == DType::kF16) return 0;
  LYCIA_CHECK(dtype == DType::kF32 || dtype == DType::kBF16) << "packed b is " << Name(dtype) << " ";
  return cpu::PackedBytes(cpu::SelectedKernel(dtype), {.length = n}, {.length = k});
}

}  // namespace lycia
