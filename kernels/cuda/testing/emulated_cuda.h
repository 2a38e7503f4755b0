// Kernels of .cu files run on the CPU, thread by thread: for tests of index maps, sums and barriers on machines without a GPU.
//
// A source "x_emulated.cc" includes this header, then "x_cuda.cu", and is linked with fake_cuda.cc (runtime/device/testing) instead of
// the CUDA runtime: a launch then waits in the fake stream like a copy, and runs one block after the other. The threads of a block are
// fibers that change places only at barriers and shuffles, forwards in one launch, backwards in the next, so that most missing barriers
// show. A barrier that not all threads reach, a shuffle whose lanes have left and a launch that no GPU accepts end the test with a message.
//
// Understood: static __shared__ memory, dynamic by dynamic_shared.cuh, __syncthreads, __syncwarp, __shfl_xor_sync, __shfl_sync,
// cudaLaunchKernelEx without attributes, cudaFuncSetAttribute of shared memory; atomics and votes (emulated_atomics.h); mma.cuh and
// copy_async.cuh, which have twins of their instructions made of what is below. Not: clusters, other PTX. x86-64 only.
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

// What every lane of the running warp has brought to an instruction that all 32 execute together, at most 32 bytes. Valid until the next
// but one of them.
const char* ExchangeBytes(const void* value, std::size_t bytes);
inline constexpr std::size_t kExchangedBytes = 32;  // from one lane's to the next's
template <typename T>
struct WarpValues {
  const char* data;
  const T* Of(int lane) const { return reinterpret_cast<const T*>(data + static_cast<std::size_t>(lane) * kExchangedBytes); }
};
template <typename T>
WarpValues<T> Exchange(const T& value) {
  static_assert(sizeof(T) <= kExchangedBytes && std::is_trivially_copyable_v<T>);
  return {ExchangeBytes(&value, sizeof(T))};
}

// Copies of the running thread that arrive in a wait, as late as CUDA allows; `present` bytes are copied, the others are zero. Until then
// the destination is NaN. Misaligned addresses end the test.
void CopyAsync(void* to, const void* from, int bytes, int present);
void CommitCopies();
void WaitCopies(int pending);  // groups; -1: all copies, also those of no group yet

// Of the running block, aligned to 1,024 bytes, all NaN when the block begins.
void* DynamicShared();
// Ends the test with the message unless `promise` holds.
void Require(bool promise, const char* message);

// The only attribute known is the dynamic shared memory of a kernel; at most what sm_86 has, 99 KiB.
cudaError_t SetKernelAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
template <typename... Parameters>
cudaError_t SetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value) {
  return SetKernelAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

cudaError_t EnqueueKernel(const void* kernel, const cudaLaunchConfig_t& config, std::function<void()> body);

template <typename... Parameters, typename... Arguments>
cudaError_t Launch(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  std::tuple<std::decay_t<Parameters>...> values(static_cast<std::decay_t<Parameters>>(arguments)...);
  return EnqueueKernel(reinterpret_cast<const void*>(kernel), *config, [kernel, values] { std::apply(kernel, values); });
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
#define cudaFuncSetAttribute ::lycia::emulator::SetAttribute
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
