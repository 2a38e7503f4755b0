// Matrix multiply: c = op(a) op(b), the heart of every linear layer, forward and backward.
//
// For y = x W + b (x [m, k], W [k, n]):  forward {x, W, y, bias};  dx = dy Wᵀ {dy, W transposed, dx};  dW += xᵀ dy {x transposed, dy, dW}.
#ifndef LYCIA_KERNELS_GEMM_GEMM_H_
#define LYCIA_KERNELS_GEMM_GEMM_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

struct GemmArgs {
  ConstMatrix a;  // op(a) is [m, k]: stored [k, m] when transposed
  bool transpose_a = false;
  ConstMatrix b;  // op(b) is [k, n]: stored [n, k] when transposed
  bool transpose_b = false;
  Matrix c;                 // [m, n]; overlaps no other operand
  bool accumulate = false;  // c += instead of c =
  ConstTensor bias;         // [n], added to every row; absent when data is null
  ConstMatrix residual;     // [m, n], added; absent when data is null
};

struct BiasGradientArgs {
  ConstMatrix dout;  // [rows, n]
  Tensor dbias;      // [n], += column sums of dout
};

// f32 and f64, all operands of one type. Same bits for the same shapes and values: one thread, fixed order.
namespace cpu {
void Gemm(Stream& stream, const GemmArgs& args);
void BiasGradient(Stream& stream, const BiasGradientArgs& args);
}  // namespace cpu

inline void Gemm(Stream& stream, const GemmArgs& args) {
  DispatchCpuOnly(stream, "Gemm", [&] { cpu::Gemm(stream, args); });
}
inline void BiasGradient(Stream& stream, const BiasGradientArgs& args) {
  DispatchCpuOnly(stream, "BiasGradient", [&] { cpu::BiasGradient(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_GEMM_GEMM_H_
