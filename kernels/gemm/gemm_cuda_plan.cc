#include "kernels/gemm/gemm_cuda_plan.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia::cuda {
namespace {

// cuBLASLt asks this of the leading dimension of GELU's saved input, in elements, and 16 bytes of its address.
constexpr std::int64_t kAuxLdMultiple = 8;
constexpr std::uintptr_t kAuxAlignment = 16;
constexpr std::uintptr_t kMostAlignment = 128;
constexpr std::int64_t kScratchOfSums = std::int64_t{1} << 20;  // bytes, far less than the stream has

std::uint8_t AlignmentOf(const void* address) {
  if (address == nullptr) return 0;
  const std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(address) | kMostAlignment;
  return static_cast<std::uint8_t>(bits & (~bits + 1));
}

void CheckOperand(const char* name, const ConstMatrix& operand, const GemmArgs& args) {
  if (operand.data == nullptr) return;
  LYCIA_CHECK(operand.rows == args.c.rows && operand.cols == args.c.cols && operand.ld >= operand.cols)
      << name << " is [" << operand.rows << ", " << operand.cols << "], not [m, n] = [" << args.c.rows << ", " << args.c.cols << "] ";
}
void CheckType(const char* name, DType type, const GemmArgs& args) {
  // In a product of bf16 or f16 also f32.
  LYCIA_CHECK(type == args.a.dtype || type == ArithmeticDType(args.a.dtype))
      << name << " is " << Name(type) << " in a product of " << Name(args.a.dtype) << " ";
}

void Check(const GemmArgs& args) {
  const std::int64_t k = args.transpose_a ? args.a.rows : args.a.cols;
  LYCIA_CHECK(args.a.dtype == DType::kF32 || args.a.dtype == DType::kF64 || args.a.dtype == DType::kBF16 || args.a.dtype == DType::kF16)
      << "a is " << Name(args.a.dtype) << " ";
  LYCIA_CHECK(args.b.dtype == args.a.dtype) << "a is " << Name(args.a.dtype) << ", b " << Name(args.b.dtype) << " ";
  LYCIA_CHECK_EQ(args.transpose_a ? args.a.cols : args.a.rows, args.c.rows);
  LYCIA_CHECK_EQ(args.transpose_b ? args.b.cols : args.b.rows, k);
  LYCIA_CHECK_EQ(args.transpose_b ? args.b.rows : args.b.cols, args.c.cols);
  LYCIA_CHECK(args.a.ld >= args.a.cols && args.b.ld >= args.b.cols && args.c.ld >= args.c.cols)
      << "a leading dimension is shorter than its row ";
  LYCIA_CHECK(args.b_sums.data == nullptr || (args.b_sums.elements() == args.c.cols && !args.transpose_b))
      << "b_sums of " << args.b_sums.elements() << " for " << args.c.cols << " columns of b, which must not be transposed ";
  LYCIA_CHECK(args.bias.data == nullptr || args.bias.elements() == args.c.cols)
      << "bias of " << args.bias.elements() << " for " << args.c.cols << " columns ";
  CheckOperand("residual", args.residual, args);
  CheckOperand("pre_activation", args.pre_activation, args);
  CheckOperand("gelu_input", args.gelu_input, args);
  CheckType("c", args.c.dtype, args);
  if (args.bias.data != nullptr) CheckType("bias", args.bias.dtype, args);
  if (args.residual.data != nullptr) CheckType("residual", args.residual.dtype, args);
  if (args.pre_activation.data != nullptr) CheckType("pre_activation", args.pre_activation.dtype, args);
  if (args.gelu_input.data != nullptr) CheckType("gelu_input", args.gelu_input.dtype, args);
}

const char* WhyNotAux(const ConstMatrix& aux, DType type) {
  if (aux.dtype != type) return "GELU's input has another type than c";
  if (aux.ld % kAuxLdMultiple != 0) return "the leading dimension of GELU's input is not a multiple of 8";
  if (reinterpret_cast<std::uintptr_t>(aux.data) % kAuxAlignment != 0) return "GELU's input is not aligned to 16 bytes";
  return nullptr;
}

BlasEpilogue EpilogueOf(const GemmArgs& args) {
  const bool bias = args.bias.data != nullptr;
  if (args.gelu_input.data != nullptr) return BlasEpilogue::kGeluSlope;
  if (!args.gelu) return bias ? BlasEpilogue::kBias : BlasEpilogue::kNone;
  if (args.pre_activation.data == nullptr) return bias ? BlasEpilogue::kGeluBias : BlasEpilogue::kGelu;
  return bias ? BlasEpilogue::kGeluSavedBias : BlasEpilogue::kGeluSaved;
}

}  // namespace

const char* WhyNotFused(const GemmArgs& args) {
  const bool bias = args.bias.data != nullptr, residual = args.residual.data != nullptr, slope = args.gelu_input.data != nullptr;
  const bool saves = args.pre_activation.data != nullptr, acts = args.gelu || slope;
  if ((args.transpose_a ? args.a.rows : args.a.cols) == 0) return "the sum is empty";
  if (args.c.dtype == DType::kF64 && (bias || acts || saves)) return "there are no epilogues in f64";
  if (bias && args.bias.dtype != args.c.dtype) return "bias has another type than c";
  if (residual && args.residual.dtype != args.c.dtype) return "residual has another type than c";
  if (residual && args.accumulate) return "there is one addend, not two";
  if (residual && (acts || saves)) return "the addend comes before GELU, residual after it";
  if (saves && !args.gelu) return "the sum is saved only for GELU";
  if (slope && (args.gelu || bias || args.accumulate)) return "GELU's slope multiplies the product alone";
  if (slope) return WhyNotAux(args.gelu_input, args.c.dtype);
  if (saves) return WhyNotAux(args.pre_activation, args.c.dtype);
  return nullptr;
}

// The sums have the type of c: in bf16 they would be rounded, which gradients of parameters are not (docs/numerics.md).
const char* WhyNotSummed(const GemmArgs& args) {
  if (args.b_sums.data == nullptr) return "there are no sums to make";
  if (const char* reason = WhyNotFused(args)) return reason;
  if (args.c.dtype != DType::kF32) return "the sums would have c's type";
  if (EpilogueOf(args) != BlasEpilogue::kNone) return "there is one epilogue, not two";
  if (args.c.cols * static_cast<std::int64_t>(sizeof(float)) > kScratchOfSums) return "there are more columns than scratch for their sums";
  return nullptr;
}

GemmPlan PlanGemm(const GemmArgs& args, bool fuse) {
  Check(args);
  GemmPlan plan;
  const bool fused = fuse && WhyNotFused(args) == nullptr;
  plan.pass = !fused;
  plan.in_strips = !fused && ArithmeticDType(args.c.dtype) != args.c.dtype;
  BlasProduct& p = plan.product;
  p = {.rows = args.c.cols,
       .cols = args.c.rows,
       .depth = args.transpose_a ? args.a.rows : args.a.cols,
       .transpose_a = args.transpose_b,
       .transpose_b = args.transpose_a,
       .in = args.a.dtype,
       .out = plan.in_strips ? DType::kF32 : args.c.dtype,
       .ld_a = args.b.ld,
       .ld_b = args.a.ld,
       .ld_d = plan.in_strips ? args.c.cols : args.c.ld,
       .tf32 = args.tf32 && args.a.dtype == DType::kF32,
       .align_a = AlignmentOf(args.b.data),
       .align_b = AlignmentOf(args.a.data),
       .align_d = AlignmentOf(args.c.data)};
  BlasOperands& o = plan.operands;
  o = {.a = args.b.data, .b = args.a.data, .d = args.c.data};
  // Of a product in strips the pass adds c.
  const ConstMatrix addend = args.accumulate && !plan.in_strips ? ConstMatrix(args.c) : fused ? args.residual : ConstMatrix();
  if (addend.data != nullptr) {
    p.add = true;
    p.in_place = addend.data == args.c.data;
    p.ld_add = addend.ld;
    p.align_add = AlignmentOf(addend.data);
    o.add = addend.data;
  }
  if (!fused) return plan;
  p.epilogue = EpilogueOf(args);
  o.bias = args.bias.data;
  if (WhyNotSummed(args) == nullptr) {
    plan.sums_b = true;
    p.epilogue = BlasEpilogue::kSumsOfA;
    p.align_bias = kMostAlignment;  // of scratch
    return plan;
  }
  if (args.gelu_input.data != nullptr) {
    o.aux = const_cast<void*>(args.gelu_input.data);  // only read
    p.ld_aux = args.gelu_input.ld;
  } else if (args.pre_activation.data != nullptr) {
    o.aux = args.pre_activation.data;
    p.ld_aux = args.pre_activation.ld;
  }
  p.align_bias = AlignmentOf(o.bias);
  p.align_aux = AlignmentOf(o.aux);
  return plan;
}

GemmPlan GemmPlan::Strip(const GemmArgs& args, std::int64_t first, std::int64_t count, void* to) const {
  GemmPlan strip = *this;
  const std::int64_t skipped = first * (args.transpose_a ? 1 : args.a.ld) * SizeOf(args.a.dtype);
  strip.operands.b = static_cast<const char*>(operands.b) + skipped;
  strip.operands.d = to;
  strip.product.cols = count;
  strip.product.align_b = AlignmentOf(strip.operands.b);
  strip.product.align_d = AlignmentOf(to);
  return strip;
}

StatusOr<std::int64_t> RowsOfStrip(std::int64_t m, std::int64_t n, std::int64_t bytes) {
  constexpr std::int64_t kTile = 128;  // of cuBLASLt's, so that strips waste none
  const std::int64_t fit = bytes / (n * static_cast<std::int64_t>(sizeof(float)));
  if (fit == 0) {
    return InvalidArgument("a product of ", n, " columns needs ", n * static_cast<std::int64_t>(sizeof(float)), " bytes of scratch a row, ",
                           bytes, " are there; use operands of c's type, or fewer columns");
  }
  if (fit >= m) return m;
  return fit >= kTile ? fit / kTile * kTile : fit;
}

}  // namespace lycia::cuda
