// Layer norm on CUDA: y = (x - mean) * rstd * gamma + beta over the columns of each row, alone or of x = in + residual, and the gradient of
// x (norm_row_cuda.cuh). Bytes moved, in elements: forward 2 * rows * cols (x, y), with a residual 4; input gradient 3 (x, dout, din), 4
// accumulating; 2 * rows of statistics. gamma and beta stay in the caches. Sums are f32 (f64), at most 32 + 5 + 32 additions deep. Bound by
// memory bandwidth; share of it: docs/measurements.md, as measured before bf16 (tests/gpu measures it).
#include <cuda_runtime.h>

#include "kernels/norm/layer_norm.h"
#include "kernels/norm/norm_row_cuda.cuh"

namespace lycia::cuda {

void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    LaunchNormForward<true, T>(stream, "LayerNormForward", in.rows, in.cols,
                               {.in = args.in.as<T>(),
                                .gamma = args.gamma.as<T>(),
                                .beta = args.beta.as<T>(),
                                .out = args.out.as<T>(),
                                .mean = args.mean.as<A>(),
                                .rstd = args.rstd.as<A>()},
                               args.eps);
  });
}

void AddLayerNormForward(Stream& stream, const AddLayerNormForwardArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    LaunchNormForward<true, T>(stream, "AddLayerNormForward", in.rows, in.cols,
                               {.in = args.in.as<T>(),
                                .residual = args.residual.as<T>(),
                                .gamma = args.gamma.as<T>(),
                                .beta = args.beta.as<T>(),
                                .sum = args.sum.as<T>(),
                                .out = args.out.as<T>(),
                                .mean = args.mean.as<A>(),
                                .rstd = args.rstd.as<A>()},
                               args.eps);
  });
}

void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    LaunchNormBackwardInput<true, T>(stream, "LayerNormBackwardInput", in.rows, in.cols,
                                     {.dout = args.dout.as<T>(),
                                      .in = args.in.as<T>(),
                                      .gamma = args.gamma.as<T>(),
                                      .mean = args.mean.as<A>(),
                                      .rstd = args.rstd.as<A>(),
                                      .din = args.din.as<T>()},
                                     args.accumulate);
  });
}

}  // namespace lycia::cuda
