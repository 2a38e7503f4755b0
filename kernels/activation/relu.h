// ReLU (max(x, 0), where a NaN stays one) alone or after a sum, and its gradient.
#ifndef LYCIA_KERNELS_ACTIVATION_RELU_H_
#define LYCIA_KERNELS_ACTIVATION_RELU_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Tensors of one type, bf16, f32 or f64, and one number of elements. bf16 is computed in f32 and rounded once.
struct ReluForwardArgs {
  ConstTensor in;
  ConstTensor residual;  // out = max(in + residual, 0); absent when data is null
  Tensor out;            // may be in or residual
};
struct ReluBackwardArgs {
  ConstTensor dout;
  ConstTensor out;          // of the forward
  Tensor din;               // = dout, or 0 where out <= 0; may be dout when not accumulating
  bool accumulate = false;  // din += instead of din =
};

namespace cpu {
void ReluForward(Stream& stream, const ReluForwardArgs& args);
void ReluBackward(Stream& stream, const ReluBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void ReluForward(Stream& stream, const ReluForwardArgs& args);
void ReluBackward(Stream& stream, const ReluBackwardArgs& args);
}  // namespace cuda

inline void ReluForward(Stream& stream, const ReluForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::ReluForward(stream, args); }, [&] { cuda::ReluForward(stream, args); });
}
inline void ReluBackward(Stream& stream, const ReluBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::ReluBackward(stream, args); }, [&] { cuda::ReluBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ACTIVATION_RELU_H_
