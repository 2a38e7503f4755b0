// For kernels: the CUDA stream under a lycia::Stream.
#ifndef LYCIA_RUNTIME_DEVICE_CUDA_STREAM_H_
#define LYCIA_RUNTIME_DEVICE_CUDA_STREAM_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

#include "runtime/device/compute_capability.h"
#include "runtime/device/cuda_error.h"
#include "runtime/device/cuda_fault.h"
#include "runtime/device/device.h"

namespace lycia::cuda {

// Scratch of every stream, in device memory, free for each kernel in its turn: the first half for cuBLASLt (which asks for 32 MiB on
// Hopper), the second for what our own kernels keep between two launches.
inline constexpr std::int64_t kBlasWorkspaceBytes = std::int64_t{32} << 20;
inline constexpr std::int64_t kKernelWorkspaceBytes = std::int64_t{32} << 20;

struct StreamTarget {
  cudaStream_t stream = nullptr;
  int capability = 0;  // of the device, for launch choices (compute_capability.h)
  int multiprocessors = 0;
  bool tf32 = false;                 // of its device (CudaOptions)
  void* blas_workspace = nullptr;    // kBlasWorkspaceBytes
  void* kernel_workspace = nullptr;  // kKernelWorkspaceBytes
  FaultWord* faults = nullptr;       // [kNumFaults], seen by device and host; Synchronize fails the stream for what is written there
};

// Makes the stream's device current on the calling thread. `stream` must be of kind kCuda.
StreamTarget TargetOf(Stream& stream);

// What the matrix products keep with a stream: their handle and plans. Null until they put something there; the stream must be of kind
// kCuda.
std::shared_ptr<void>& GemmStateOf(Stream& stream);

// Elapse: one thread that sleeps on the device.
cudaError_t LaunchElapse(cudaStream_t stream, std::int64_t ns);
// Whether this build brings machine code for the current device, or code that the driver can translate: cudaSuccess.
cudaError_t FindCode();

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
