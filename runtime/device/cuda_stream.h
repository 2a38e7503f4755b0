// For kernels: the CUDA stream under a lycia::Stream.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_STREAM_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_STREAM_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/device/cuda_error.h"
#include "runtime/device/device.h"

namespace lycia::cuda {

struct StreamTarget {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;  // of the device, for launch choices
};

// Makes the stream's device current on the calling thread. `stream` must be of kind kCuda.
StreamTarget TargetOf(Stream& stream);

// Elapse: one thread that sleeps on the device.
cudaError_t LaunchElapse(cudaStream_t stream, std::int64_t ns);

// For cudaLaunchKernelEx, which tells at once whether a launch is possible; cudaGetLastError might tell of somebody else's call.
inline cudaLaunchConfig_t LaunchConfig(const StreamTarget& target, dim3 grid, dim3 block) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = target.stream;
  return config;
}

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_DEVICE_CUDA_STREAM_H_
