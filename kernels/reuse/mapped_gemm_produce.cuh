// The parts of a block that multiplies mapped rows on Hopper: what it is told, its shared memory, and the producers that fill it
// (mapped_gemm_hopper_cuda.cu has the plan). Device code, sm_90a.
#ifndef LYCIA_KERNELS_REUSE_MAPPED_GEMM_PRODUCE_CUH_
#define LYCIA_KERNELS_REUSE_MAPPED_GEMM_PRODUCE_CUH_

#include <cuda_runtime.h>

#include "kernels/cuda/copy_async.cuh"
#include "kernels/cuda/mbarrier.h"
#include "kernels/cuda/tensor_map_cuda.h"
#include "kernels/cuda/tma_cuda.h"
#include "kernels/cuda/warp_group.h"
#include "kernels/cuda/wgmma.h"
#include "kernels/gemm/gemm_epilogue.cuh"
#include "kernels/reuse/mapped_gemm_hopper.h"

namespace lycia::cuda {

struct MappedParameters {
  CUtensorMap left, right;
  const BFloat16* a;  // of listed rows
  std::int64_t a_ld;
  int rows, columns, depth;  // of c and the sum; of what the map says, the most
  IndexMap map;
  GemmEpilogue<float, BFloat16> epilogue;
  BFloat16* scattered;  // null: to c
  std::int64_t scattered_ld;
};

inline constexpr int kMappedConsumers = 2, kMappedGroupRows = 64;
inline constexpr int kMappedPanelBytes = kMappedDepth * kPanelRowBytes;  // of an operand that is summed along its rows

struct alignas(1024) MappedStage {
  char left[kMappedLeftBytes];
  char right[kMappedRightBytes];
};
struct MappedShared {
  MappedStage stages[kMappedStages];
  char out[kMappedConsumers][kMappedGroupRows * kMappedRowBytes];
  Barrier full[kMappedStages], empty[kMappedStages];
};
static_assert(static_cast<int>(sizeof(MappedShared)) + kSwizzleAtomBytes <= kMappedSharedBytes);

// What the word leaves of a product.
struct MappedExtent {
  int rows, depth, row_tiles, column_tiles;
  __device__ int tiles() const { return row_tiles * column_tiles; }
  __device__ int steps() const { return (depth + kMappedDepth - 1) / kMappedDepth; }
};
template <MappedOver kOver>
__device__ __forceinline__ MappedExtent ExtentOf(const MappedParameters& p) {
  const int size = *p.map.size;
  const int rows = kOver == MappedOver::kRows ? size : p.rows, depth = kOver == MappedOver::kRows ? p.depth : size;
  return {rows, depth, (rows + kMappedRows - 1) / kMappedRows, (p.columns + kMappedColumns - 1) / kMappedColumns};
}

// Arrives at the barrier, which counts on it, when all copies of this thread so far are there.
__device__ __forceinline__ void ArriveAfterCopies(Barrier& barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(&barrier.word)) : "memory");
}

template <Summed kRight>
__device__ __forceinline__ void LoadRight(const MappedParameters& p, MappedStage& stage, int first_column, int k, Barrier& full) {
  if constexpr (kRight == Summed::kColumns) {
    LoadBox(stage.right, &p.right, {k, first_column, 0, 0}, full);
  } else {
#pragma unroll
    for (int panel = 0; panel < kMappedColumns / kPanelColumns; ++panel) {
      LoadBox(stage.right + panel * kMappedPanelBytes, &p.right, {first_column + panel * kPanelColumns, k, 0, 0}, full);
    }
  }
}

// One thread, by the copy engine.
template <MappedOver kOver, Summed kRight>
__device__ inline void ProduceBoxes(const MappedParameters& p, MappedShared& shared, const MappedExtent& extent) {
  RingPosition<kMappedStages> at;
  for (int tile = static_cast<int>(blockIdx.x); tile < extent.tiles(); tile += static_cast<int>(gridDim.x)) {
    const MappedTile place = MappedTileAt(tile, extent.row_tiles, extent.column_tiles);
    const int first_row = place.row * kMappedRows, first_column = place.column * kMappedColumns;
    for (int k = 0; k < extent.depth; k += kMappedDepth, at.Next()) {
      MappedStage& stage = shared.stages[at.stage];
      Barrier& full = shared.full[at.stage];
      shared.empty[at.stage].Wait(at.parity() ^ 1);
      full.ArriveExpecting(kMappedLeftBytes + kMappedRightBytes);
      if constexpr (kOver == MappedOver::kRows) {
        LoadBox(stage.left, &p.left, {k, first_row, 0, 0}, full);
      } else {
#pragma unroll
        for (int panel = 0; panel < kMappedRows / kPanelColumns; ++panel) {
          LoadBox(stage.left + panel * kMappedPanelBytes, &p.left, {first_row + panel * kPanelColumns, k, 0, 0}, full);
        }
      }
      LoadRight<kRight>(p, stage, first_column, k, full);
    }
  }
}

// The whole producer warp group: a thread copies one piece of each of eight rows of a step.
template <Summed kRight>
__device__ inline void ProduceListedRows(const MappedParameters& p, MappedShared& shared, const MappedExtent& extent) {
  constexpr int kPieces = kPanelRowBytes / kPieceBytes, kApart = kWarpGroupThreads / kPieces, kRowsEach = kMappedRows / kApart;
  const int thread = static_cast<int>(threadIdx.x) % kWarpGroupThreads, piece = thread % kPieces, first = thread / kPieces;
  RingPosition<kMappedStages> at;
  for (int tile = static_cast<int>(blockIdx.x); tile < extent.tiles(); tile += static_cast<int>(gridDim.x)) {
    const MappedTile place = MappedTileAt(tile, extent.row_tiles, extent.column_tiles);
    const int first_row = place.row * kMappedRows, first_column = place.column * kMappedColumns;
    int rows[kRowsEach];  // numbers and not addresses: a producer has few registers
#pragma unroll
    for (int i = 0; i < kRowsEach; ++i) {
      const int row = first_row + first + i * kApart, listed = row < extent.rows ? row : extent.rows - 1;  // beyond: any, not stored
      rows[i] = p.map.representatives[listed];
    }
    for (int k = 0; k < extent.depth; k += kMappedDepth, at.Next()) {
      MappedStage& stage = shared.stages[at.stage];
      Barrier& full = shared.full[at.stage];
      shared.empty[at.stage].Wait(at.parity() ^ 1);
      const int column = k + piece * (kPieceBytes / 2);
      const bool there = column < extent.depth;
#pragma unroll
      for (int i = 0; i < kRowsEach; ++i) {
        const int offset = TileOffset(kMappedRows, first + i * kApart, piece * (kPieceBytes / 2));
        CopyAsync<kPieceBytes>(stage.left + offset, p.a + rows[i] * p.a_ld + (there ? column : 0), there);
      }
      ArriveAfterCopies(full);
      if (thread == 0) {
        full.ArriveExpecting(kMappedRightBytes);
        LoadRight<kRight>(p, stage, first_column, k, full);
      }
    }
  }
  WaitAllCopies();  // no thread ends with copies under way
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_REUSE_MAPPED_GEMM_PRODUCE_CUH_
