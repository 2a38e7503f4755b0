// RMS norm on CUDA: y = x * rstd * gamma over the columns of each row, alone or of x = in + residual, and the gradient of x
// (norm_row_cuda.cuh). Bytes moved, in elements: forward 2 * rows * cols (x, y), with a residual 4; input gradient 3 (x, dout, din), 4
// accumulating. Bound by memory bandwidth; share of it: not yet run (tests/gpu measures it).
#include <cuda_runtime.h>

#include "kernels/norm/norm_row_cuda.cuh"
#include "kernels/norm/rms_norm.h"

namespace lycia::cuda {

void RmsNormForward(Stream& stream, const RmsNormForwardArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    LaunchNormForward<false, T>(
        stream, "RmsNormForward", in.rows, in.cols,
        {.in = args.in.as<T>(), .gamma = args.gamma.as<T>(), .out = args.out.as<T>(), .rstd = args.rstd.as<Arithmetic<T>>()}, args.eps);
  });
}

void AddRmsNormForward(Stream& stream, const AddRmsNormForwardArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    LaunchNormForward<false, T>(stream, "AddRmsNormForward", in.rows, in.cols,
                                {.in = args.in.as<T>(),
                                 .residual = args.residual.as<T>(),
                                 .gamma = args.gamma.as<T>(),
                                 .sum = args.sum.as<T>(),
                                 .out = args.out.as<T>(),
                                 .rstd = args.rstd.as<Arithmetic<T>>()},
                                args.eps);
  });
}

void RmsNormBackwardInput(Stream& stream, const RmsNormBackwardInputArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    LaunchNormBackwardInput<false, T>(stream, "RmsNormBackwardInput", in.rows, in.cols,
                                      {.dout = args.dout.as<T>(),
                                       .in = args.in.as<T>(),
                                       .gamma = args.gamma.as<T>(),
                                       .rstd = args.rstd.as<Arithmetic<T>>(),
                                       .din = args.din.as<T>()},
                                      args.accumulate);
  });
}

}  // namespace lycia::cuda
