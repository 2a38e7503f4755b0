// Layer normalisation over the last dimension (Ba, Kiros & Hinton 2016): out = (in - mean) * rstd * gamma + beta.
//
// mean and rstd = 1 / sqrt(variance + eps) of each row are kept for the backward. The backward comes in two halves, because a schedule may
// run them at different times.
#ifndef LYCIA_KERNELS_NORM_LAYER_NORM_H_
#define LYCIA_KERNELS_NORM_LAYER_NORM_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// All tensors of one dtype, f32 or f64; sums are made in that type (f32: in several partial sums). R rows, C features.
struct LayerNormForwardArgs {
  ConstTensor in;     // [R..., C]
  ConstTensor gamma;  // [C]
  ConstTensor beta;   // [C]
  Tensor out;         // [R..., C]; may be `in`
  Tensor mean;        // [R]
  Tensor rstd;        // [R]
  double eps = 1e-5;
};

struct LayerNormBackwardInputArgs {
  ConstTensor dout;         // [R..., C]
  ConstTensor in;           // [R..., C]
  ConstTensor gamma;        // [C]
  ConstTensor mean;         // [R]
  ConstTensor rstd;         // [R]
  Tensor din;               // [R..., C]; may be `dout` when not accumulating
  bool accumulate = false;  // din += instead of din =
};

struct LayerNormBackwardWeightArgs {
  ConstTensor dout;  // [R..., C]
  ConstTensor in;    // [R..., C]
  ConstTensor mean;  // [R]
  ConstTensor rstd;  // [R]
  Tensor dgamma;     // [C], +=
  Tensor dbeta;      // [C], +=
};

namespace cpu {
void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args);
void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args);
void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args);
}  // namespace cpu
namespace cuda {
void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args);
void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args);
void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args);
}  // namespace cuda

inline void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::LayerNormForward(stream, args); }, [&] { cuda::LayerNormForward(stream, args); });
}
inline void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args) {
  Dispatch(
      stream, [&] { cpu::LayerNormBackwardInput(stream, args); }, [&] { cuda::LayerNormBackwardInput(stream, args); });
}
inline void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args) {
  Dispatch(
      stream, [&] { cpu::LayerNormBackwardWeight(stream, args); }, [&] { cuda::LayerNormBackwardWeight(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_NORM_LAYER_NORM_H_
