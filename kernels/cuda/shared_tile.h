// How a tile of 2-byte elements lies in shared memory, for the copy engine that writes it and the tensor cores that read it.
//
// A tile of R rows and C columns is cut into panels of 64 columns, one after the other; a row of a panel is 128 bytes, eight pieces of 16.
// The 128-byte swizzle puts piece p of row r in place p ^ (r % 8), so that eight rows of one piece lie in eight different bank groups:
//
//   row 0:  0 1 2 3 4 5 6 7        row 1:  1 0 3 2 5 4 7 6        row 2:  2 3 0 1 6 7 4 5   ...   row 8: as row 0
//
// The hardware computes the swizzle from address bits 4-6 and 7-9: panels begin at multiples of 1,024 bytes.
// Source: PTX ISA, "Tensor swizzling modes" and "Asynchronous warpgroup-level matrix shared memory layout".
#ifndef LYCIA_KERNELS_CUDA_SHARED_TILE_H_
#define LYCIA_KERNELS_CUDA_SHARED_TILE_H_

#include <cstdint>

namespace lycia::cuda {

inline constexpr int kPanelColumns = 64;        // of 2 bytes: one swizzled row
inline constexpr int kPanelRowBytes = 128;      // kPanelColumns elements
inline constexpr int kPieceBytes = 16;          // what the swizzle moves
inline constexpr int kSwizzleRows = 8;          // after which the pattern repeats
inline constexpr int kSwizzleAtomBytes = 1024;  // kSwizzleRows rows; also the alignment of a panel

struct TileElement {
  int row = 0, column = 0;
  bool operator==(const TileElement&) const = default;
};

// Where element (row, column) of a tile of `rows` rows lies, in bytes from the tile's start; and back.
constexpr int TileOffset(int rows, int row, int column) {
  const int panel = column / kPanelColumns, piece = column % kPanelColumns * 2 / kPieceBytes, in_piece = column * 2 % kPieceBytes;
  return (panel * rows + row) * kPanelRowBytes + (piece ^ row % kSwizzleRows) * kPieceBytes + in_piece;
}
constexpr TileElement ElementAt(int rows, int offset) {
  const int line = offset / kPanelRowBytes, row = line % rows, panel = line / rows;
  const int piece = offset % kPanelRowBytes / kPieceBytes ^ row % kSwizzleRows;
  return {row, panel * kPanelColumns + (piece * kPieceBytes + offset % kPieceBytes) / 2};
}

// The 64 bits by which wgmma finds an operand in shared memory: bits 0-13 address, 16-29 leading and 32-45 stride byte offset, each in
// units of 16 bytes; 62-63 swizzle, 1 for 128 bytes. `address` is in the shared window, at a multiple of 1,024 plus a whole step (below).
constexpr std::uint64_t SwizzledDescriptor(std::uint32_t address, std::uint32_t leading_bytes, std::uint32_t stride_bytes) {
  const auto field = [](std::uint32_t bytes) { return std::uint64_t{(bytes & 0x3ffffu) >> 4}; };
  return field(address) | field(leading_bytes) << 16 | field(stride_bytes) << 32 | std::uint64_t{1} << 62;
}

// A tile read with its columns as the summed index k ("K-major"): rows are the operand's m or n. Groups of eight rows are an atom apart;
// the leading offset has no meaning.
constexpr std::uint64_t RowsDescriptor(std::uint32_t address) { return SwizzledDescriptor(address, kPieceBytes, kSwizzleAtomBytes); }
// A tile of `rows` rows read with its rows as the summed index k ("MN-major", the instruction's transpose flag): columns are m or n. Groups
// of eight rows are an atom apart, 64 columns a panel.
constexpr std::uint64_t ColumnsDescriptor(std::uint32_t address, int rows) {
  return SwizzledDescriptor(address, static_cast<std::uint32_t>(rows * kPanelRowBytes), kSwizzleAtomBytes);
}

inline constexpr int kStepK = 16;  // summed elements of one wgmma of 2-byte types

// Bytes from the tile's start to the operand of step `step`, which sums k = 16 step ... 16 step + 15.
constexpr int RowsStepBytes(int rows, int step) {
  const int column = step * kStepK;
  return column / kPanelColumns * rows * kPanelRowBytes + column % kPanelColumns * 2;
}
constexpr int ColumnsStepBytes(int step) { return step * kStepK * kPanelRowBytes; }

// The descriptor `bytes` further on: the address field does not overflow below 256 KiB.
constexpr std::uint64_t Advance(std::uint64_t descriptor, int bytes) { return descriptor + static_cast<std::uint64_t>(bytes >> 4); }

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_SHARED_TILE_H_
