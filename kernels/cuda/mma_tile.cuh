// Operands of the tensor cores out of a tile in shared memory, which lies as shared_tile.h says: eight rows of one piece are in different
// banks, so that ldmatrix reads without conflicts, along rows and transposed. Device code; all 32 lanes of a warp together.
#ifndef LYCIA_KERNELS_CUDA_MMA_TILE_CUH_
#define LYCIA_KERNELS_CUDA_MMA_TILE_CUH_

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/shared_tile.h"

namespace lycia::cuda {

// A tile of kRows rows of two-byte elements, aligned to kSwizzleAtomBytes.
template <int kRows>
struct MmaTile {
  char* data;

  // Elements (row, column) ... + 7; column is a multiple of 8.
  __device__ __forceinline__ char* Piece(int row, int column) const { return data + TileOffset(kRows, row, column); }

  // A[i][k] = tile[row + i][column + k].
  __device__ __forceinline__ OperandA A(int lane, int row, int column) const {
    const MatrixPlace from = SourceOfA(lane);
    OperandA a;
    LoadMatrices<false>(a.pairs, Piece(row + from.row, column + from.column));
    return a;
  }
  // A[i][k] = tile[row + k][column + i].
  __device__ __forceinline__ OperandA ATransposed(int lane, int row, int column) const {
    const MatrixPlace from = SourceOfATransposed(lane);
    OperandA a;
    LoadMatrices<true>(a.pairs, Piece(row + from.row, column + from.column));
    return a;
  }
  // b[j / 8] B[k][j % 8] = tile[row + j][column + k], 16 columns j of the product.
  __device__ __forceinline__ void B(OperandB (&b)[2], int lane, int row, int column) const {
    const MatrixPlace from = SourceOfB(lane);
    std::uint32_t pairs[4];
    LoadMatrices<false>(pairs, Piece(row + from.row, column + from.column));
    b[0] = {{pairs[0], pairs[1]}}, b[1] = {{pairs[2], pairs[3]}};
  }
  // b[j / 8] B[k][j % 8] = tile[row + k][column + j].
  __device__ __forceinline__ void BTransposed(OperandB (&b)[2], int lane, int row, int column) const {
    const MatrixPlace from = SourceOfBTransposed(lane);
    std::uint32_t pairs[4];
    LoadMatrices<true>(pairs, Piece(row + from.row, column + from.column));
    b[0] = {{pairs[0], pairs[1]}}, b[1] = {{pairs[2], pairs[3]}};
  }
};

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_MMA_TILE_CUH_
