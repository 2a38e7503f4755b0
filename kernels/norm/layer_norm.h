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

// All tensors of one dtype, bf16, f32 or f64, but for mean, rstd, dgamma and dbeta, which are f32 for bf16. Sums are made in that type
// (f32: in several partial sums); bf16 is computed in f32, and out and din are rounded once. R rows, C features.
struct LayerNormForwardArgs {
  ConstTensor in;     // [R..., C]
  ConstTensor gamma;  // [C]
  ConstTensor beta;   // [C]
  Tensor out;         // [R..., C]; may be `in`
  Tensor mean;        // [R]
  Tensor rstd;        // [R]
  double eps = 1e-5;
};

// sum = in + residual, rounded, and the layer norm of sum, in one pass over memory: the same bits as Add and LayerNormForward.
struct AddLayerNormForwardArgs {
  ConstTensor in;           // [R..., C]
  ConstTensor residual;     // [R..., C]
  Tensor sum;               // [R..., C]; may be `in` or `residual`
  ConstTensor gamma, beta;  // [C]
  Tensor out;               // [R..., C]; not sum
  Tensor mean, rstd;        // [R], of the rows of sum
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
void AddLayerNormForward(Stream& stream, const AddLayerNormForwardArgs& args);
void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args);
void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args);
}  // namespace cpu
namespace cuda {
void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args);
void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args);
void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args);
void AddLayerNormForward(Stream& stream, const AddLayerNormForwardArgs& args);
}  // namespace cuda

inline void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::LayerNormForward(stream, args); }, [&] { cuda::LayerNormForward(stream, args); });
}
inline void AddLayerNormForward(Stream& stream, const AddLayerNormForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::AddLayerNormForward(stream, args); }, [&] { cuda::AddLayerNormForward(stream, args); });
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
