// How the element-wise CUDA kernels of the optimizer are launched: pure host functions, tested without a GPU.
#ifndef LYCIA_KERNELS_OPTIMIZER_OPTIMIZER_CUDA_LAUNCH_H_
#define LYCIA_KERNELS_OPTIMIZER_OPTIMIZER_CUDA_LAUNCH_H_

#include <cstdint>
#include <initializer_list>

namespace lycia::cuda {

inline constexpr int kElementVectorBytes = 16;  // the widest load
inline constexpr int kElementThreads = 256;     // eight blocks fill a multiprocessor; a short last block wastes little

// Elements of one load: 16 bytes if every address is a multiple of that, else one. A segment may begin anywhere in a flat buffer.
inline int ElementVector(std::initializer_list<const void*> addresses, int element_bytes) {
  for (const void* address : addresses) {
    if (reinterpret_cast<std::uintptr_t>(address) % kElementVectorBytes != 0) return 1;
  }
  return kElementVectorBytes / element_bytes;
}

constexpr std::int64_t ElementBlocks(std::int64_t elements, int vector) {
  const std::int64_t block = std::int64_t{kElementThreads} * vector;
  return (elements + block - 1) / block;
}

// Segments that one launch takes: what it tells the kernel of them stays below the 4 KiB that every launch may carry.
inline constexpr int kSegmentsAtOnce = 48;

// Which segment a block is of: the last whose first block is not behind it.
#if defined(__CUDACC__)
__host__ __device__
#endif
    constexpr int
    SegmentOfBlock(const std::int32_t* first_blocks, int count, std::int32_t block) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (first_blocks[middle] <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_OPTIMIZER_OPTIMIZER_CUDA_LAUNCH_H_
