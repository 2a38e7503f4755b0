// Shared memory whose size the launch gives, the same for kernels of nvcc and emulated ones.
#ifndef LYCIA_KERNELS_CUDA_DYNAMIC_SHARED_CUH_
#define LYCIA_KERNELS_CUDA_DYNAMIC_SHARED_CUH_

#include "kernels/cuda/shared_tile.h"

namespace lycia::cuda {

// Aligned to kSwizzleAtomBytes, for kernels without static shared memory.
__device__ __forceinline__ char* DynamicShared() {
#if defined(LYCIA_EMULATED_CUDA)
  return static_cast<char*>(emulator::DynamicShared());
#else
  extern __shared__ __align__(kSwizzleAtomBytes) char dynamic_shared[];
  return dynamic_shared;
#endif
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_DYNAMIC_SHARED_CUH_
