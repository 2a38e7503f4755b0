// What the copy engine is told about a tensor: sizes, strides and the box of one copy. Plain numbers, tested without CUDA;
// tensor_map_cuda.h makes the driver's 128 bytes of them.
#ifndef LYCIA_KERNELS_CUDA_TENSOR_MAP_H_
#define LYCIA_KERNELS_CUDA_TENSOR_MAP_H_

#include <array>
#include <cstdint>

namespace lycia::cuda {

// Of 2-byte elements, four dimensions, innermost first; the innermost is contiguous. Boxes are written to shared memory in the 128-byte
// swizzle of shared_tile.h, a panel each.
struct TensorMap {
  std::array<std::int64_t, 4> sizes{};    // elements
  std::array<std::int64_t, 3> strides{};  // of dimensions 1, 2, 3, in bytes
  std::array<int, 4> box{};               // elements

  std::int64_t box_bytes() const { return std::int64_t{2} * box[0] * box[1] * box[2] * box[3]; }
  bool operator==(const TensorMap&) const = default;
};

inline constexpr int kMaxBoxElements = 256;                           // in each dimension
inline constexpr int kMapAlignment = 16;                              // bytes, of the address and of every stride
inline constexpr std::int64_t kMaxMapSize = std::int64_t{1} << 32;    // elements
inline constexpr std::int64_t kMaxMapStride = std::int64_t{1} << 40;  // bytes

// nullptr if the engine takes the map of a tensor at `address`, else the reason.
inline const char* Reject(const TensorMap& map, std::uintptr_t address) {
  if (address % kMapAlignment != 0) return "the tensor does not begin at a multiple of 16 bytes";
  if (map.box[0] * 2 > 128) return "a row of the box is wider than the 128-byte swizzle";
  for (const int elements : map.box) {
    if (elements < 1 || elements > kMaxBoxElements) return "a box has 1 to 256 elements in each dimension";
  }
  for (const std::int64_t size : map.sizes) {
    if (size < 1 || size > kMaxMapSize) return "a dimension has 1 to 2^32 elements";
  }
  for (const std::int64_t stride : map.strides) {
    if (stride % kMapAlignment != 0) return "a stride is not a multiple of 16 bytes";
    if (stride < 0 || stride >= kMaxMapStride) return "a stride is negative or 2^40 bytes and more";
  }
  return nullptr;
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_TENSOR_MAP_H_
