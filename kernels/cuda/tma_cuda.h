// The bulk tensor copy engine (PTX ISA, "cp.async.bulk.tensor"): boxes of a tensor in global memory to shared memory and back, by the
// tensor map of tensor_map.h. What lies outside the tensor reads as zero and is not written. Device code only, sm_90.
#ifndef LYCIA_KERNELS_CUDA_TMA_CUDA_H_
#define LYCIA_KERNELS_CUDA_TMA_CUDA_H_

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/mbarrier.h"

namespace lycia::cuda {

// A corner of a box in a tensor of four dimensions, innermost first.
struct BoxCorner {
  int x0, x1, x2, x3;
};

__device__ __forceinline__ void PrefetchTensorMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// The box's bytes count as arrived at `barrier` when they are in shared memory.
__device__ __forceinline__ void LoadBox(void* to, const CUtensorMap* map, const BoxCorner& at, Barrier& barrier) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
                   SharedAddress(to)),
               "l"(map), "r"(SharedAddress(&barrier.word)), "r"(at.x0), "r"(at.x1), "r"(at.x2), "r"(at.x3)
               : "memory");
}

// Added to the base pixels of a copy in im2col mode, 0 to 255 each.
struct PixelOffset {
  int w, h;
};
// The pixels from base pixel `at` on = (channel, w, h, n), moved by the offset (im2col_map.h).
__device__ __forceinline__ void LoadPatches(void* to, const CUtensorMap* map, const BoxCorner& at, const PixelOffset& offset,
                                            Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::
          "r"(SharedAddress(to)),
      "l"(map), "r"(SharedAddress(&barrier.word)), "r"(at.x0), "r"(at.x1), "r"(at.x2), "r"(at.x3),
      "h"(static_cast<unsigned short>(offset.w)), "h"(static_cast<unsigned short>(offset.h))
      : "memory");
}

// The same for `bytes` in a row; a multiple of 16, as are both addresses.
__device__ __forceinline__ void LoadBytes(void* to, const void* from, int bytes, Barrier& barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(SharedAddress(to)),
               "l"(from), "r"(bytes), "r"(SharedAddress(&barrier.word))
               : "memory");
}

// Stores are grouped per thread: CommitStores ends a group, WaitStoresRead returns when the groups have read their shared memory.
__device__ __forceinline__ void StoreBox(const CUtensorMap* map, const BoxCorner& at, const void* from) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
               "r"(SharedAddress(from)), "r"(at.x0), "r"(at.x1), "r"(at.x2), "r"(at.x3)
               : "memory");
}
// The same for `bytes` in a row; a multiple of 16, as are both addresses. AddFloats adds f32 in the L2 cache.
__device__ __forceinline__ void StoreBytes(void* to, const void* from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(SharedAddress(from)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void AddFloats(float* to, const void* from, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(SharedAddress(from)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void CommitStores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ __forceinline__ void WaitStoresRead() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ __forceinline__ void WaitStores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// What this thread has seen in global memory comes before the copies that it starts.
__device__ __forceinline__ void FenceGlobalForAsync() { asm volatile("fence.proxy.async.global;" ::: "memory"); }
// Ordinary writes to shared memory before it are seen by copies and tensor cores after the next barrier.
__device__ __forceinline__ void FenceSharedForAsync() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_TMA_CUDA_H_
