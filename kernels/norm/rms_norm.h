// Root-mean-square normalisation over the last dimension (Zhang & Sennrich 2019): out = in * rstd * gamma, rstd = 1 / sqrt(mean(in²) +
// eps).
//
// rstd of each row is kept for the backward, which comes in two halves, because a schedule may run them at different times.
#ifndef LYCIA_KERNELS_NORM_RMS_NORM_H_
#define LYCIA_KERNELS_NORM_RMS_NORM_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// All tensors of one dtype, bf16, f32 or f64, but for rstd and dgamma, which are f32 for bf16. Sums are made in that type (f32: in several
// partial sums); bf16 is computed in f32, and out and din are rounded once. R rows, C features.
struct RmsNormForwardArgs {
  ConstTensor in;     // [R..., C]
  ConstTensor gamma;  // [C]
  Tensor out;         // [R..., C]; may be `in`
  Tensor rstd;        // [R]
  double eps = 1e-5;
};

// sum = in + residual, rounded, and the norm of sum, in one pass over memory: the same bits as Add and RmsNormForward.
struct AddRmsNormForwardArgs {
  ConstTensor in;        // [R..., C]
  ConstTensor residual;  // [R..., C]
  Tensor sum;            // [R..., C]; may be `in` or `residual`
  ConstTensor gamma;     // [C]
  Tensor out;            // [R..., C]; not sum
  Tensor rstd;           // [R], of the rows of sum
  double eps = 1e-5;
};

struct RmsNormBackwardInputArgs {
  ConstTensor dout;         // [R..., C]
  ConstTensor in;           // [R..., C]
  ConstTensor gamma;        // [C]
  ConstTensor rstd;         // [R]
  Tensor din;               // [R..., C]; may be `dout` when not accumulating
  bool accumulate = false;  // din += instead of din =
};

struct RmsNormBackwardWeightArgs {
  ConstTensor dout;  // [R..., C]
  ConstTensor in;    // [R..., C]
  ConstTensor rstd;  // [R]
  Tensor dgamma;     // [C], +=
};

namespace cpu {
void RmsNormForward(Stream& stream, const RmsNormForwardArgs& args);
void AddRmsNormForward(Stream& stream, const AddRmsNormForwardArgs& args);
void RmsNormBackwardInput(Stream& stream, const RmsNormBackwardInputArgs& args);
void RmsNormBackwardWeight(Stream& stream, const RmsNormBackwardWeightArgs& args);
}  // namespace cpu
namespace cuda {
void RmsNormForward(Stream& stream, const RmsNormForwardArgs& args);
void AddRmsNormForward(Stream& stream, const AddRmsNormForwardArgs& args);
void RmsNormBackwardInput(Stream& stream, const RmsNormBackwardInputArgs& args);
void RmsNormBackwardWeight(Stream& stream, const RmsNormBackwardWeightArgs& args);
}  // namespace cuda

inline void RmsNormForward(Stream& stream, const RmsNormForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::RmsNormForward(stream, args); }, [&] { cuda::RmsNormForward(stream, args); });
}
inline void AddRmsNormForward(Stream& stream, const AddRmsNormForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::AddRmsNormForward(stream, args); }, [&] { cuda::AddRmsNormForward(stream, args); });
}
inline void RmsNormBackwardInput(Stream& stream, const RmsNormBackwardInputArgs& args) {
  Dispatch(
      stream, [&] { cpu::RmsNormBackwardInput(stream, args); }, [&] { cuda::RmsNormBackwardInput(stream, args); });
}
inline void RmsNormBackwardWeight(Stream& stream, const RmsNormBackwardWeightArgs& args) {
  Dispatch(
      stream, [&] { cpu::RmsNormBackwardWeight(stream, args); }, [&] { cuda::RmsNormBackwardWeight(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_NORM_RMS_NORM_H_
