// How kernels that touch each element once are launched: pure host functions, tested without a GPU.
#ifndef LYCIA_KERNELS_CUDA_MAP_LAUNCH_H_
#define LYCIA_KERNELS_CUDA_MAP_LAUNCH_H_

#include <cstdint>
#include <initializer_list>

namespace lycia::cuda {

inline constexpr int kWidestAccess = 16;  // bytes of one load or store
inline constexpr int kMapThreads = 256;   // eight blocks fill a multiprocessor; a short last block wastes little

// A matrix that the kernel reads or writes by rows.
struct MapOperand {
  const void* data = nullptr;  // null: absent
  std::int64_t element_bytes = 4;
  std::int64_t ld = 0;  // elements from one row to the next; 0: there is one row
};

// Whether `vector` elements of every operand can be accessed at once: no access above 16 bytes, every row aligned to its access.
inline bool MapAllows(int vector, std::initializer_list<MapOperand> operands) {
  for (const MapOperand& operand : operands) {
    const std::int64_t bytes = vector * operand.element_bytes;
    if (operand.data == nullptr) continue;
    if (bytes > kWidestAccess) return false;
    if (reinterpret_cast<std::uintptr_t>(operand.data) % static_cast<std::uintptr_t>(bytes) != 0) return false;
    if (operand.ld * operand.element_bytes % bytes != 0) return false;
  }
  return true;
}

// A row is cut into packs of `vector` elements, the last of them incomplete; one thread a pack.
constexpr std::int64_t PacksOfRow(std::int64_t cols, int vector) { return (cols + vector - 1) / vector; }
constexpr std::int64_t MapBlocks(std::int64_t rows, std::int64_t cols, int vector) {
  return (rows * PacksOfRow(cols, vector) + kMapThreads - 1) / kMapThreads;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_MAP_LAUNCH_H_
