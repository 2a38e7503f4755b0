// Kernels of .cu files run on the CPU, thread by thread: for tests of index maps, sums and barriers on machines without a GPU.
//
// A source "x_emulated.cc" includes this header, then "x_cuda.cu", and is linked with fake_cuda.cc (runtime/device/testing) instead of
// the CUDA runtime: a launch then waits in the fake stream like a copy, and runs one block after the other. The threads of a block are
// fibers that change places only at barriers and shuffles, forwards in one launch, backwards in the next, so that most missing barriers
// show. A barrier that not all threads reach, a shuffle whose lanes have left and a launch that no GPU accepts end the test with a message.
//
// Understood: static __shared__ memory, __syncthreads, __syncwarp, __shfl_xor_sync, __shfl_sync and cudaLaunchKernelEx without attributes;
// atomics and votes (emulated_atomics.h). Not: dynamic shared memory, clusters, tensor cores, PTX. x86-64 only.
#ifndef LYCIA_KERNELS_CUDA_TESTING_EMULATED_CUDA_H_
#define LYCIA_KERNELS_CUDA_TESTING_EMULATED_CUDA_H_

#include <cuda_runtime.h>

#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

extern uint3 threadIdx, blockIdx;  // of the thread that runs
extern dim3 blockDim, gridDim;

namespace lycia::emulator {

void BlockBarrier();
void WarpBarrier(unsigned mask);
// 32 slots of 16 bytes of the running warp, and the running thread's lane.
void* WarpSlot(int lane);
int Lane();

cudaError_t EnqueueKernel(const cudaLaunchConfig_t& config, std::function<void()> body);

template <typename... Parameters, typename... Arguments>
cudaError_t Launch(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  std::tuple<std::decay_t<Parameters>...> values(static_cast<std::decay_t<Parameters>>(arguments)...);
  return EnqueueKernel(*config, [kernel, values] { std::apply(kernel, values); });
}

template <typename T>
T Shuffle(unsigned mask, const T& value, int from_lane) {
  static_assert(sizeof(T) <= 16 && std::is_trivially_copyable_v<T>);
  std::memcpy(WarpSlot(Lane()), &value, sizeof(T));
  WarpBarrier(mask);
  T other;
  std::memcpy(&other, WarpSlot(from_lane), sizeof(T));
  WarpBarrier(mask);  // nobody writes its slot again before all have read
  return other;
}

}  // namespace lycia::emulator

#undef __shared__
#undef __launch_bounds__
#define __shared__ static
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#define cudaLaunchKernelEx ::lycia::emulator::Launch
#define LYCIA_EMULATED_CUDA 1

inline void __syncthreads() { ::lycia::emulator::BlockBarrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { ::lycia::emulator::WarpBarrier(mask); }
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return ::lycia::emulator::Shuffle(mask, value, ::lycia::emulator::Lane() ^ lane_mask);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return ::lycia::emulator::Shuffle(mask, value, lane);
}

#include "kernels/cuda/testing/emulated_atomics.h"

#endif  // LYCIA_KERNELS_CUDA_TESTING_EMULATED_CUDA_H_
