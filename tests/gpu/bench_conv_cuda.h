// TFLOP/s of the convolutions of CUDA.
#ifndef LYCIA_TESTS_GPU_BENCH_CONV_CUDA_H_
#define LYCIA_TESTS_GPU_BENCH_CONV_CUDA_H_

#include "runtime/device/device.h"

namespace lycia {

// Three lines a layer: forward, both gradients.
void BenchCudaConv(Device& device);

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_BENCH_CONV_CUDA_H_
