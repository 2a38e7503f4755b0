// Dropout (Srivastava et al. 2014), inverted: an element is kept iff random.Uniform(index) >= rate, and then scaled by 1 / (1 - rate).
//
// The mask is never stored: forward and backward recompute it from the global index, so it is the same on every layout.
#ifndef LYCIA_KERNELS_ELEMENTWISE_DROPOUT_H_
#define LYCIA_KERNELS_ELEMENTWISE_DROPOUT_H_

#include <cmath>
#include <cstdint>

#include "kernels/dispatch.h"
#include "runtime/core/philox.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Element (r, c) of a tensor seen as rows [R, C] (C its last dimension) has random index first_index + r * row_stride + c.
struct DropoutMask {
  double rate = 0;  // in [0, 1); 0 keeps all
  RandomStream random;
  std::int64_t first_index = 0;
  std::int64_t row_stride = 0;  // 0: C, rows lie side by side. Larger where this call sees a part of the features.
};

// bf16, f32 or f64, all tensors of one type; bf16 is computed in f32 and rounded once, after the residual.
struct DropoutForwardArgs {
  ConstTensor in;        // [R..., C]
  ConstTensor residual;  // [R..., C], added after the dropout; absent when data is null
  Tensor out;            // [R..., C]; may be `in` or `residual`
  DropoutMask mask;
};

struct DropoutBackwardArgs {
  ConstTensor dout;  // [R..., C]
  Tensor din;        // [R..., C], =; may be `dout`
  DropoutMask mask;  // of the forward
};

// Bits below this are dropped: Uniform(i) >= rate is the same as Bits(i) >= DropoutThreshold(rate), exactly.
inline std::uint64_t DropoutThreshold(double rate) {
  const double scaled = rate * 0x1p32;  // exact; the smallest integer b with b + 1/2 >= scaled
  const double whole = std::floor(scaled);
  return static_cast<std::uint64_t>(whole) + (scaled - whole > 0.5 ? 1 : 0);
}

namespace cpu {
void DropoutForward(Stream& stream, const DropoutForwardArgs& args);
void DropoutBackward(Stream& stream, const DropoutBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void DropoutForward(Stream& stream, const DropoutForwardArgs& args);
void DropoutBackward(Stream& stream, const DropoutBackwardArgs& args);
}  // namespace cuda

inline void DropoutForward(Stream& stream, const DropoutForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::DropoutForward(stream, args); }, [&] { cuda::DropoutForward(stream, args); });
}
inline void DropoutBackward(Stream& stream, const DropoutBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::DropoutBackward(stream, args); }, [&] { cuda::DropoutBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ELEMENTWISE_DROPOUT_H_
