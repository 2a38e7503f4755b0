// The table of the CUDA attention.
#ifndef LYCIA_TESTS_GPU_BENCH_ATTENTION_H_
#define LYCIA_TESTS_GPU_BENCH_ATTENTION_H_

#include "runtime/device/device.h"

namespace lycia {

// Prints one line a size and mask. device: of kind kCuda.
void BenchCudaAttention(Device& device);

}  // namespace lycia

#endif  // LYCIA_TESTS_GPU_BENCH_ATTENTION_H_
