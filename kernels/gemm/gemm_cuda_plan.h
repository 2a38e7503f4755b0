// A Gemm as cuBLASLt can do it: pure host functions, tested without a GPU.
//
// cuBLASLt counts columns first. A row-major matrix [m, n] with leading dimension ld is to it the transpose [n, m] with the same ld, and
// c = op(a) op(b) is cᵀ = op(b)ᵀ op(a)ᵀ. So its first operand is our b, its second our a, its rows are our n:
//   b stored [k, n] is to it [n, k], which is op(b)ᵀ: not transposed.  b stored [n, k] (transpose_b) is to it [k, n]: transposed. a alike.
//   A vector along our columns (bias [n]) is one along its rows, which is what its bias is.
#ifndef LYCIA_KERNELS_GEMM_GEMM_CUDA_PLAN_H_
#define LYCIA_KERNELS_GEMM_GEMM_CUDA_PLAN_H_

#include <cstdint>
#include <utility>

#include "kernels/gemm/gemm.h"

namespace lycia::cuda {

// What cuBLASLt does with the sum before it writes it; kSaved: the input of GELU is kept in aux; kGeluSlope: times GELU'(aux); kSumsOfA:
// the sums of its first operand over the depth, which is our b's, go to bias besides.
enum class BlasEpilogue : std::uint8_t { kNone, kBias, kGelu, kGeluBias, kGeluSaved, kGeluSavedBias, kGeluSlope, kSumsOfA };

// d [rows, cols] = epilogue(op(a) op(b) (+ addend)), column-major; everything that decides which algorithm fits.
struct BlasProduct {
  std::int64_t rows = 0, cols = 0, depth = 0;
  bool transpose_a = false, transpose_b = false;
  DType in = DType::kF32, out = DType::kF32;  // of a and b; of addend, d, bias and aux
  std::int64_t ld_a = 0, ld_b = 0, ld_add = 0, ld_d = 0, ld_aux = 0;
  bool add = false;
  bool in_place = false;  // the addend is d
  bool tf32 = false;
  BlasEpilogue epilogue = BlasEpilogue::kNone;
  // Bytes, powers of two up to 128; 0: absent.
  std::uint8_t align_a = 0, align_b = 0, align_add = 0, align_d = 0, align_bias = 0, align_aux = 0;

  bool operator==(const BlasProduct&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const BlasProduct& p) {
    return H::combine(std::move(h), p.rows, p.cols, p.depth, p.transpose_a, p.transpose_b, p.in, p.out, p.ld_a, p.ld_b, p.ld_add, p.ld_d,
                      p.ld_aux, p.add, p.in_place, p.tf32, p.epilogue, p.align_a, p.align_b, p.align_add, p.align_d, p.align_bias,
                      p.align_aux);
  }
};
struct BlasOperands {
  const void *a = nullptr, *b = nullptr, *add = nullptr, *bias = nullptr;
  void *d = nullptr, *aux = nullptr;
};

// One call of cuBLASLt, and whether what it leaves out is done by a pass over the elements behind it.
struct GemmPlan {
  BlasProduct product;
  BlasOperands operands;
  bool pass = false;
  // The product is made in f32 scratch, a strip of rows after the other, because c is bf16 or f16 and may be rounded only once.
  bool in_strips = false;
  // The product makes b_sums too, as `=`, into the stream's scratch: a caller sets operands.bias and adds.
  bool sums_b = false;

  // That of rows [first, first + count) of c alone, into memory at `to`.
  GemmPlan Strip(const GemmArgs& args, std::int64_t first, std::int64_t count, void* to) const;
};

// Why cuBLASLt alone cannot do it with the meaning of gemm.h; nullptr: it can.
const char* WhyNotFused(const GemmArgs& args);
// Why the product cannot make b_sums on the way; nullptr: it can.
const char* WhyNotSummed(const GemmArgs& args);
// fuse: false where cuBLASLt has turned out to have no algorithm for the fused product. Checks the operands' sizes and types.
GemmPlan PlanGemm(const GemmArgs& args, bool fuse);
// Rows of a strip of n f32 columns in `bytes` of scratch: all of m, else a multiple of 128 if possible. InvalidArgument if none fits.
StatusOr<std::int64_t> RowsOfStrip(std::int64_t m, std::int64_t n, std::int64_t bytes);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_GEMM_GEMM_CUDA_PLAN_H_
