// Copies from global to shared memory that pass no registers (PTX ISA, "cp.async", sm_80): a thread queues copies, ends a group of them,
// and waits until all groups but the last ones have arrived; a barrier then shows them to the block. Device code. Where kernels are
// emulated the bytes are NaN until the wait.
#ifndef LYCIA_KERNELS_CUDA_COPY_ASYNC_CUH_
#define LYCIA_KERNELS_CUDA_COPY_ASYNC_CUH_

#include <cstdint>

namespace lycia::cuda {

// kBytes (4, 8 or 16) from `from`, or as many zeros where it is not `present`; both sides aligned to kBytes. Of what is not present nothing
// is read, but the address must be one of global memory.
template <int kBytes>
__device__ __forceinline__ void CopyAsync(void* to, const void* from, bool present) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
#if defined(LYCIA_EMULATED_CUDA)
  emulator::CopyAsync(to, from, kBytes, present ? kBytes : 0);
#else
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (kBytes == 16) {  // by way of L2 alone
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(present ? 16 : 0) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(kBytes), "r"(present ? kBytes : 0)
                 : "memory");
  }
#endif
}

__device__ __forceinline__ void CommitCopies() {
#if defined(LYCIA_EMULATED_CUDA)
  emulator::CommitCopies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// All groups of the calling thread but the kPending last.
template <int kPending>
__device__ __forceinline__ void WaitCopies() {
#if defined(LYCIA_EMULATED_CUDA)
  emulator::WaitCopies(kPending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// All copies of the calling thread, those of no group among them.
__device__ __forceinline__ void WaitAllCopies() {
#if defined(LYCIA_EMULATED_CUDA)
  emulator::WaitCopies(-1);
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_COPY_ASYNC_CUH_
