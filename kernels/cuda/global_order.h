// Words in global memory by which blocks wait for each other, and sums that blocks make in turn (PTX ISA, "memory consistency model",
// "red"). Device code only, sm_90.
#ifndef LYCIA_KERNELS_CUDA_GLOBAL_ORDER_H_
#define LYCIA_KERNELS_CUDA_GLOBAL_ORDER_H_

namespace lycia::cuda {

// What was written before the store of a word is seen after a load of it.
__device__ __forceinline__ int LoadAcquire(const int* word) {
  int value;
  asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}
__device__ __forceinline__ void StoreRelease(int* word, int value) {
  asm volatile("st.release.gpu.global.b32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_GLOBAL_ORDER_H_
