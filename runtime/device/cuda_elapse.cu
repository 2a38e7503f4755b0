// Elapse on the device. One block of one thread sleeps until the nanosecond clock of the chip has passed the deadline: it moves no bytes
// and holds one of the 2,048 thread places of one multiprocessor, so that emulated computations on several streams overlap as real ones
// would.
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// __nanosleep takes at most a millisecond at a time.
constexpr std::int64_t kLongestNapNs = 1'000'000;

__device__ std::int64_t NowNs() {
  std::int64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

__global__ void SleepKernel(std::int64_t ns) {
  const std::int64_t end = NowNs() + ns;
  for (std::int64_t left = ns; left > 0; left = end - NowNs()) {
    __nanosleep(static_cast<unsigned>(left < kLongestNapNs ? left : kLongestNapNs));
  }
}

}  // namespace

cudaError_t LaunchElapse(cudaStream_t stream, std::int64_t ns) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, SleepKernel, ns);
}

// Every kernel is compiled for the same devices: this one stands for all.
cudaError_t FindCode() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, SleepKernel);
}

}  // namespace lycia::cuda
