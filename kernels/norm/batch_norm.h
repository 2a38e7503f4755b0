// Batch normalisation of channels (Ioffe & Szegedy 2015): out = (in - mean) * rstd * gamma + beta, mean and variance over the rows of one
// group of samples, the same number in every group, whatever micro-batches, pipes and ranks there are. A residual and a ReLU that follow
// join the same pass over memory: out = max(norm(in) + residual, 0).
#ifndef LYCIA_KERNELS_NORM_BATCH_NORM_H_
#define LYCIA_KERNELS_NORM_BATCH_NORM_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Images and their gradients of one type, bf16, f32 or f64; everything of [C] or [G, C] is f32 beside bf16, but gamma and beta, which have
// the images' type. Sums are made in f32 (f64). bf16 is rounded once.
// N samples in G = N / samples groups of `samples` consecutive ones, which must divide N; C channels, the last dimension.
struct BatchNormForwardArgs {
  ConstTensor in;     // [N, ..., C]
  ConstTensor gamma;  // [C]
  ConstTensor beta;   // [C]
  std::int64_t samples = 1;
  ConstTensor residual;  // [N, ..., C]; absent when data is null
  bool relu = false;
  Tensor out;       // [N, ..., C]; may be in, unless a backward follows, or residual
  Tensor mean;      // [G, C]
  Tensor rstd;      // [G, C], 1 / sqrt(variance + eps)
  Tensor variance;  // [G, C], over the rows of a group (not one less); for UpdateRunning; absent when data is null
  double eps = 1e-5;
};

// The same with given statistics, as in evaluation.
struct BatchNormEvaluateArgs {
  ConstTensor in;              // [..., C]
  ConstTensor gamma, beta;     // [C]
  ConstTensor mean, variance;  // [C], running
  ConstTensor residual;        // [..., C]; absent when data is null
  bool relu = false;
  Tensor out;  // [..., C]; may be in or residual
  double eps = 1e-5;
};

// scale = gamma / sqrt(variance + eps), bias = beta - mean * scale: what a convolution's epilogue takes instead of a batch norm.
struct BatchNormFoldArgs {
  ConstTensor gamma, beta;     // [C]
  ConstTensor mean, variance;  // [C], f32 for bf16
  Tensor scale, bias;          // [C], f32 for bf16
  double eps = 1e-5;
};

// Group after group: running = (1 - momentum) * running + momentum * statistic, the variance of a group times rows / (rows - 1), if it has
// more than one. Equal to one call for each group.
struct BatchNormUpdateRunningArgs {
  ConstTensor mean, variance;             // [G, C]
  std::int64_t rows = 1;                  // of a group: samples times pixels
  double momentum = 0.1;                  // weight of a new statistic
  Tensor running_mean, running_variance;  // [C]
};

// With d = dout, or 0 where a ReLU left out <= 0, and n = (in - mean) * rstd, over the rows of each group:
//   sum_d = sum of d,  sum_dn = sum of d * n. They are what both halves of the backward need.
struct BatchNormBackwardSumsArgs {
  ConstTensor dout;        // [N, ..., C]
  ConstTensor in;          // [N, ..., C]
  ConstTensor mean, rstd;  // [G, C]
  ConstTensor relu_out;    // [N, ..., C], out of a forward with relu; absent when data is null
  Tensor sum_d, sum_dn;    // [G, C]
};

// din = gamma * rstd * (d - sum_d / rows - n * sum_dn / rows); dresidual = d.
struct BatchNormBackwardInputArgs {
  ConstTensor dout;           // [N, ..., C]
  ConstTensor in;             // [N, ..., C]
  ConstTensor gamma;          // [C]
  ConstTensor mean, rstd;     // [G, C]
  ConstTensor relu_out;       // as in the sums
  ConstTensor sum_d, sum_dn;  // [G, C], of BatchNormBackwardSums
  Tensor din;                 // [N, ..., C]; may be dout when not accumulating
  bool accumulate = false;    // din += instead of din =
  Tensor dresidual;           // [N, ..., C], =; may be dout, but not din; absent when data is null
};

struct BatchNormBackwardWeightArgs {
  ConstTensor sum_d, sum_dn;  // [G, C]
  Tensor dgamma;              // [C], += sum_dn of all groups, in their order
  Tensor dbeta;               // [C], += sum_d
};

// Same bits for any number of threads.
namespace cpu {
void BatchNormForward(Stream& stream, const BatchNormForwardArgs& args);
void BatchNormEvaluate(Stream& stream, const BatchNormEvaluateArgs& args);
void BatchNormFold(Stream& stream, const BatchNormFoldArgs& args);
void BatchNormUpdateRunning(Stream& stream, const BatchNormUpdateRunningArgs& args);
void BatchNormBackwardSums(Stream& stream, const BatchNormBackwardSumsArgs& args);
void BatchNormBackwardInput(Stream& stream, const BatchNormBackwardInputArgs& args);
void BatchNormBackwardWeight(Stream& stream, const BatchNormBackwardWeightArgs& args);
}  // namespace cpu
namespace cuda {
void BatchNormForward(Stream& stream, const BatchNormForwardArgs& args);
void BatchNormEvaluate(Stream& stream, const BatchNormEvaluateArgs& args);
void BatchNormFold(Stream& stream, const BatchNormFoldArgs& args);
void BatchNormUpdateRunning(Stream& stream, const BatchNormUpdateRunningArgs& args);
void BatchNormBackwardSums(Stream& stream, const BatchNormBackwardSumsArgs& args);
void BatchNormBackwardInput(Stream& stream, const BatchNormBackwardInputArgs& args);
void BatchNormBackwardWeight(Stream& stream, const BatchNormBackwardWeightArgs& args);
}  // namespace cuda

inline void BatchNormForward(Stream& stream, const BatchNormForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::BatchNormForward(stream, args); }, [&] { cuda::BatchNormForward(stream, args); });
}
inline void BatchNormEvaluate(Stream& stream, const BatchNormEvaluateArgs& args) {
  Dispatch(
      stream, [&] { cpu::BatchNormEvaluate(stream, args); }, [&] { cuda::BatchNormEvaluate(stream, args); });
}
inline void BatchNormFold(Stream& stream, const BatchNormFoldArgs& args) {
  Dispatch(
      stream, [&] { cpu::BatchNormFold(stream, args); }, [&] { cuda::BatchNormFold(stream, args); });
}
inline void BatchNormUpdateRunning(Stream& stream, const BatchNormUpdateRunningArgs& args) {
  Dispatch(
      stream, [&] { cpu::BatchNormUpdateRunning(stream, args); }, [&] { cuda::BatchNormUpdateRunning(stream, args); });
}
inline void BatchNormBackwardSums(Stream& stream, const BatchNormBackwardSumsArgs& args) {
  Dispatch(
      stream, [&] { cpu::BatchNormBackwardSums(stream, args); }, [&] { cuda::BatchNormBackwardSums(stream, args); });
}
inline void BatchNormBackwardInput(Stream& stream, const BatchNormBackwardInputArgs& args) {
  Dispatch(
      stream, [&] { cpu::BatchNormBackwardInput(stream, args); }, [&] { cuda::BatchNormBackwardInput(stream, args); });
}
inline void BatchNormBackwardWeight(Stream& stream, const BatchNormBackwardWeightArgs& args) {
  Dispatch(
      stream, [&] { cpu::BatchNormBackwardWeight(stream, args); }, [&] { cuda::BatchNormBackwardWeight(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_NORM_BATCH_NORM_H_
