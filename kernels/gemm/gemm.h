// Matrix multiply: c = op(a) op(b), the heart of every linear layer, forward and backward.
//
// For y = x W + b (x [m, k], W [k, n]):  forward {x, W, y, bias};  dx = dy Wᵀ {dy, W transposed, dx};  dW += xᵀ dy {x transposed, dy, dW},
// with db as b_sums.
#ifndef LYCIA_KERNELS_GEMM_GEMM_H_
#define LYCIA_KERNELS_GEMM_GEMM_H_

#include "kernels/dispatch.h"
#include "kernels/gemm/packed_matrix.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// With s = op(a) op(b) (+ c) + bias, one pass over c:
//   pre_activation = s;  s = GELU(s) if gelu;  s *= GELU'(gelu_input);  s += residual;  c = s
// Types: a and b f32, c f32; or a and b bf16, c bf16 or f32; on CUDA f16 likewise; or all f64. Every other operand has c's type, but those
// of a product of bf16 (f16) may each be that or f32. Sums and all that follows are f32 (f64); bf16 and f16 are rounded once, when they are
// written, to nearest even.
struct GemmArgs {
  ConstMatrix a;  // op(a) is [m, k]: stored [k, m] when transposed
  bool transpose_a = false;
  ConstMatrix b;  // op(b) is [k, n]: stored [n, k] when transposed; not read when packed_b is given
  bool transpose_b = false;
  Matrix c;                 // [m, n]; overlaps no other operand
  bool accumulate = false;  // c is added
  ConstTensor bias;         // [n], added to every row; absent when data is null
  ConstMatrix residual;     // [m, n], added; absent when data is null
  PackedMatrix packed_b;    // op(b) as PackMatrix left it
  bool gelu = false;        // tanh form, kernels/activation/gelu.h; in bf16 of the rounded s, so that it equals a GELU of pre_activation
  Matrix pre_activation;    // [m, n], =; absent when data is null
  ConstMatrix gelu_input;   // [m, n], the pre_activation of a forward; absent when data is null
  // [n], += sums over k of op(b), which is not transposed: of a weight gradient xᵀ dy they are the bias gradient. Absent when data is null.
  // Of the type of BiasGradientArgs::dbias; summed as BiasGradient does, or by the product itself on the way (CUDA), in that type.
  Tensor b_sums;
  bool tf32 = false;  // CUDA, f32: as CudaOptions::tf32, for this product; off: what the device was opened with
};

struct BiasGradientArgs {
  ConstMatrix dout;  // [rows, n] f32, f64 or bf16; on CUDA f16
  Tensor dbias;      // [n], += column sums of dout; of dout's type, f32 for bf16 and f16
};

// Same bits for the same values on one machine, for any number of threads, with b packed or not. A row of c depends on its row of a alone,
// a column on its column of b: how a matrix is cut into rows or columns changes no bit (but f64, which the BLAS computes).
// Nothing is allocated: packed blocks stand in the stream's workspaces.
namespace cpu {
void Gemm(Stream& stream, const GemmArgs& args);
void BiasGradient(Stream& stream, const BiasGradientArgs& args);
}  // namespace cpu

// Through cuBLASLt, whose epilogues do what they can with this meaning, a pass over c the rest (gemm_cuda_plan.h). b is always read and
// packed_b is not. GELU in bf16 is that of s before it is rounded where cuBLASLt does it. The algorithm of a shape is chosen at its first
// call on a stream, which allocates; later calls look it up. Same bits for the same operands on one chip; how a matrix is cut may change
// them. BiasGradient: sums in an order that depends on the size alone.
namespace cuda {
void Gemm(Stream& stream, const GemmArgs& args);
void BiasGradient(Stream& stream, const BiasGradientArgs& args);
}  // namespace cuda

inline void Gemm(Stream& stream, const GemmArgs& args) {
  Dispatch(
      stream, [&] { cpu::Gemm(stream, args); }, [&] { cuda::Gemm(stream, args); });
}
inline void BiasGradient(Stream& stream, const BiasGradientArgs& args) {
  Dispatch(
      stream, [&] { cpu::BiasGradient(stream, args); }, [&] { cuda::BiasGradient(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_GEMM_GEMM_H_
