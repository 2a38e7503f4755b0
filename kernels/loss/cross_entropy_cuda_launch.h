// How the CUDA cross-entropy is launched: pure host functions, tested without a GPU.
#ifndef LYCIA_KERNELS_LOSS_CROSS_ENTROPY_CUDA_LAUNCH_H_
#define LYCIA_KERNELS_LOSS_CROSS_ENTROPY_CUDA_LAUNCH_H_

#include <cstdint>

namespace lycia::cuda {

inline constexpr int kMaxLossThreads = 512;  // two blocks of a multiprocessor, so that one reads while the other writes, 64 registers each

// Threads of the block that takes a row: enough for one pack of `vector` elements each, at least a warp, a power of two.
constexpr int LossThreads(std::int64_t vocabulary, int vector) {
  int threads = 32;
  while (threads < kMaxLossThreads && std::int64_t{threads} * vector < vocabulary) threads *= 2;
  return threads;
}

// A row may begin anywhere: elements [0, head) and [tail, size) one by one, between them packs that are aligned as the tensor is.
struct RowCut {
  std::int64_t head = 0, packs = 0, tail = 0;
};
#if defined(__CUDACC__)
__host__ __device__
#endif
    constexpr RowCut
    CutRow(std::int64_t first_element, std::int64_t size, int vector) {
  const std::int64_t past = first_element % vector, to_pack = past == 0 ? 0 : vector - past;
  const std::int64_t head = to_pack < size ? to_pack : size;
  const std::int64_t packs = (size - head) / vector;
  return {head, packs, head + packs * vector};
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_LOSS_CROSS_ENTROPY_CUDA_LAUNCH_H_
