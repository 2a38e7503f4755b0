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

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_OPTIMIZER_OPTIMIZER_CUDA_LAUNCH_H_
