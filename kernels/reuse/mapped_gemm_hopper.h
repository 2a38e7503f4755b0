// How mapped products run on Hopper's tensor cores: which tiles in which order, by which tensor maps, and what is not taken. Pure functions
// of the host and, where the extent is known only there, of the device; tested without a GPU.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_GEMM_HOPPER_H_
#define LYCIA_KERNELS_REUSE_MAPPED_GEMM_HOPPER_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/shared_tile.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/reuse/mapped_gemm.h"

namespace lycia::cuda {

inline constexpr int kMappedRows = 128;     // of a tile: 64 for each of two consumer warp groups
inline constexpr int kMappedColumns = 256;  // of a tile: the widest instruction
inline constexpr int kMappedDepth = 64;     // of a step: a panel
inline constexpr int kMappedStages = 3;     // steps in flight; a fourth would leave no room for rows on their way out
inline constexpr int kMappedThreads = 384;  // a producer and two consumers
inline constexpr int kMappedGroup = 16;     // tiles of rows that share their columns' tiles in the L2 cache
inline constexpr int kMappedSharedBytes = 227 << 10;

inline constexpr int kMappedLeftBytes = kMappedRows * kMappedDepth * 2;
inline constexpr int kMappedRightBytes = kMappedColumns * kMappedDepth * 2;
// A row of bf16 on its way out, and 16 bytes so that the eight rows that a warp writes lie in different banks.
inline constexpr int kMappedRowBytes = kMappedColumns * 2 + 16;
constexpr int MappedBytes() {
  return kMappedStages * (kMappedLeftBytes + kMappedRightBytes + 16) + kMappedRows * kMappedRowBytes + kSwizzleAtomBytes;
}
static_assert(MappedBytes() <= kMappedSharedBytes);

// Tile `tile` of row_tiles x column_tiles: groups of rows, one after the other; in a group, row by row of each column. So the 132 blocks
// of an H100 or H200 that run at once read 16 tiles of rows and 8 of columns, 24 KiB of depth each, and not the whole of an operand.
struct MappedTile {
  int row, column;
  bool operator==(const MappedTile&) const = default;
};
constexpr MappedTile MappedTileAt(int tile, int row_tiles, int column_tiles) {
  const int group = tile / (kMappedGroup * column_tiles), first = group * kMappedGroup;
  const int rows = row_tiles - first < kMappedGroup ? row_tiles - first : kMappedGroup;
  const int in_group = tile - group * kMappedGroup * column_tiles;
  return {first + in_group % rows, in_group / rows};
}
constexpr int MappedTiles(std::int64_t lanes, int tile) { return static_cast<int>((lanes + tile - 1) / tile); }

// A matrix of bf16 in boxes of one panel's columns and `rows` rows.
inline TensorMap MappedOperandMap(const ConstMatrix& m, int rows) {
  const std::int64_t bytes = m.ld * 2;
  return {.sizes = {m.cols, m.rows, 1, 1}, .strides = {bytes, m.rows * bytes, m.rows * bytes}, .box = {kPanelColumns, rows, 1, 1}};
}
// Whether a tile's operand is summed along the rows of memory.
inline bool LeftSumsRows(const MappedGemmArgs& args) { return args.over == MappedOver::kDepth; }
inline bool RightSumsRows(const MappedGemmArgs& args) { return !args.gemm.transpose_b; }
inline TensorMap MappedLeftMap(const MappedGemmArgs& args) {
  return MappedOperandMap(args.gemm.a, LeftSumsRows(args) ? kMappedDepth : kMappedRows);
}
inline TensorMap MappedRightMap(const MappedGemmArgs& args) {
  return MappedOperandMap(args.gemm.b, RightSumsRows(args) ? kMappedDepth : kMappedColumns);
}

// nullptr if the kernel takes the product, else the reason.
inline const char* RejectMappedHopper(const MappedGemmArgs& args) {
  const GemmArgs& g = args.gemm;
  const auto address = [](const void* data) { return reinterpret_cast<std::uintptr_t>(data); };
  const auto by_pieces = [&](const Matrix& m) { return address(m.data) % 16 == 0 && m.ld * SizeOf(m.dtype) % 16 == 0; };
  const auto by_pairs = [&](const void* data, DType dtype, std::int64_t ld) {
    return data == nullptr || (ld % 2 == 0 && address(data) % static_cast<std::uintptr_t>(2 * SizeOf(dtype)) == 0);
  };
  if (g.a.dtype != DType::kBF16) return "operands are not bf16";
  if (g.c.rows == 0 || g.c.cols == 0 || g.a.rows == 0 || g.a.cols == 0 || g.b.rows == 0) return "there is nothing to multiply";
  if (args.over == MappedOver::kRows && g.a.cols % 8 != 0) return "the depth is not a multiple of 8";
  if (args.gather_a && (args.over == MappedOver::kDepth || g.transpose_b)) return "listed rows of depth, or times a transposed matrix";
  if (g.c.dtype != (args.over == MappedOver::kRows ? DType::kBF16 : DType::kF32))
    return "rows of c are not bf16, or sums over rows not f32";
  if (g.c.cols % 8 != 0 || (args.over == MappedOver::kDepth && g.c.rows % 8 != 0)) return "columns are not a multiple of 8";
  if (!by_pieces(g.c)) return "rows of c are not aligned to 16 bytes";
  if (args.scattered.data != nullptr && !by_pieces(args.scattered)) return "scattered rows are not aligned to 16 bytes";
  if (!by_pairs(g.bias.data, g.bias.dtype, 0) || !by_pairs(g.pre_activation.data, g.pre_activation.dtype, g.pre_activation.ld) ||
      !by_pairs(g.gelu_input.data, g.gelu_input.dtype, g.gelu_input.ld) || !by_pairs(g.residual.data, g.residual.dtype, g.residual.ld))
    return "what follows the sum is not aligned to pairs";
  if (const char* reason = Reject(MappedLeftMap(args), address(g.a.data)); reason != nullptr) return reason;
  return Reject(MappedRightMap(args), address(g.b.data));
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_MAPPED_GEMM_HOPPER_H_
