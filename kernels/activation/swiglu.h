// SwiGLU (Shazeer 2020): out = silu(gate) * up, silu(x) = x / (1 + exp(-x)). Gate and up lie side by side in a row, as one product of the
// two weight matrices leaves them.
#ifndef LYCIA_KERNELS_ACTIVATION_SWIGLU_H_
#define LYCIA_KERNELS_ACTIVATION_SWIGLU_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// bf16, f32 or f64, all tensors of one type; bf16 is computed in f32 and rounded once; f32 with a polynomial exponential.
struct SwiGluForwardArgs {
  ConstTensor in;  // [R..., 2 F]: F of the gate, F of up
  Tensor out;      // [R..., F]; not `in`
};

struct SwiGluBackwardArgs {
  ConstTensor in;    // of the forward
  ConstTensor dout;  // [R..., F]
  Tensor din;        // [R..., 2 F], =; may be `in`
};

namespace cpu {
void SwiGluForward(Stream& stream, const SwiGluForwardArgs& args);
void SwiGluBackward(Stream& stream, const SwiGluBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void SwiGluForward(Stream& stream, const SwiGluForwardArgs& args);
void SwiGluBackward(Stream& stream, const SwiGluBackwardArgs& args);
}  // namespace cuda

inline void SwiGluForward(Stream& stream, const SwiGluForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::SwiGluForward(stream, args); }, [&] { cuda::SwiGluForward(stream, args); });
}
inline void SwiGluBackward(Stream& stream, const SwiGluBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::SwiGluBackward(stream, args); }, [&] { cuda::SwiGluBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ACTIVATION_SWIGLU_H_
