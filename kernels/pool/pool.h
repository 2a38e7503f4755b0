// Maximum and average over windows of images (channels last).
#ifndef LYCIA_KERNELS_POOL_POOL_H_
#define LYCIA_KERNELS_POOL_POOL_H_

#include "kernels/conv/conv_axis.h"
#include "kernels/dispatch.h"
#include "runtime/core/status.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// in [N, H, W, C], out [N, P, Q, C]; a window is height.filter x width.filter. The average over whole images is a window of H x W.
// Tensors of one call are of one type, bf16, f32 or f64; sums are f32 (f64), bf16 is rounded once.
struct PoolShape {
  std::int64_t N = 1, C = 1;
  ConvAxis height, width;

  std::int64_t P() const { return height.out(); }
  std::int64_t Q() const { return width.out(); }
  bool operator==(const PoolShape&) const = default;
};

// InvalidArgument: sizes and strides below 1, negative padding, no output, a window that lies outside the image, more than 256 places in a
// window of a maximum (the average takes any) or windows over one pixel.
Status CheckPoolShape(const PoolShape& shape, bool maximum);

// The first of equal values wins, in the order of rows, then columns, of the window; a NaN wins over every number, the first NaN over
// others. What lies outside the image never wins.
struct MaxPoolForwardArgs {
  PoolShape shape;
  ConstTensor in;  // [N, H, W, C]
  Tensor out;      // [N, P, Q, C]
  Tensor winner;   // [N, P, Q, C] u8: row of the window times its width plus column; absent when data is null
};
struct MaxPoolBackwardArgs {
  PoolShape shape;
  ConstTensor dout;         // [N, P, Q, C]
  ConstTensor winner;       // [N, P, Q, C] u8, of the forward
  Tensor din;               // [N, H, W, C]: dout goes to the winners; others get zero
  bool accumulate = false;  // din += instead of din =
};

struct AveragePoolForwardArgs {
  PoolShape shape;
  ConstTensor in;              // [N, H, W, C]
  Tensor out;                  // [N, P, Q, C]
  bool count_padding = false;  // divide by the whole window, not by what of it lies in the image
};
struct AveragePoolBackwardArgs {
  PoolShape shape;
  ConstTensor dout;  // [N, P, Q, C]
  Tensor din;        // [N, H, W, C]
  bool accumulate = false;
  bool count_padding = false;
};

// Same bits for any number of threads.
namespace cpu {
void MaxPoolForward(Stream& stream, const MaxPoolForwardArgs& args);
void MaxPoolBackward(Stream& stream, const MaxPoolBackwardArgs& args);
void AveragePoolForward(Stream& stream, const AveragePoolForwardArgs& args);
void AveragePoolBackward(Stream& stream, const AveragePoolBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void MaxPoolForward(Stream& stream, const MaxPoolForwardArgs& args);
void MaxPoolBackward(Stream& stream, const MaxPoolBackwardArgs& args);
void AveragePoolForward(Stream& stream, const AveragePoolForwardArgs& args);
void AveragePoolBackward(Stream& stream, const AveragePoolBackwardArgs& args);
}  // namespace cuda

inline void MaxPoolForward(Stream& stream, const MaxPoolForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::MaxPoolForward(stream, args); }, [&] { cuda::MaxPoolForward(stream, args); });
}
inline void MaxPoolBackward(Stream& stream, const MaxPoolBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::MaxPoolBackward(stream, args); }, [&] { cuda::MaxPoolBackward(stream, args); });
}
inline void AveragePoolForward(Stream& stream, const AveragePoolForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::AveragePoolForward(stream, args); }, [&] { cuda::AveragePoolForward(stream, args); });
}
inline void AveragePoolBackward(Stream& stream, const AveragePoolBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::AveragePoolBackward(stream, args); }, [&] { cuda::AveragePoolBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_POOL_POOL_H_
