// GELU in its tanh form, "gelu_new" (Hendrycks & Gimpel 2016): out = in/2 * (1 + tanh(sqrt(2/pi) * (in + 0.044715 in³))).
#ifndef LYCIA_KERNELS_ACTIVATION_GELU_H_
#define LYCIA_KERNELS_ACTIVATION_GELU_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// bf16, f32 or f64, all tensors of one type. f32 with a polynomial exponential: error below 1e-6 of the value + 1e-7 (times dout); bf16 is
// computed so too and rounded once; f64 with std::exp. Far out, where powers overflow, out is in or 0 and the slope 1 or 0.
struct GeluForwardArgs {
  ConstTensor in;  // any shape
  Tensor out;      // same; may be `in`
};

struct GeluBackwardArgs {
  ConstTensor in;    // of the forward
  ConstTensor dout;  // same shape
  Tensor din;        // =; may be `dout`
};

namespace cpu {
void GeluForward(Stream& stream, const GeluForwardArgs& args);
void GeluBackward(Stream& stream, const GeluBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void GeluForward(Stream& stream, const GeluForwardArgs& args);
void GeluBackward(Stream& stream, const GeluBackwardArgs& args);
}  // namespace cuda

inline void GeluForward(Stream& stream, const GeluForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::GeluForward(stream, args); }, [&] { cuda::GeluForward(stream, args); });
}
inline void GeluBackward(Stream& stream, const GeluBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::GeluBackward(stream, args); }, [&] { cuda::GeluBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ACTIVATION_GELU_H_
