#include <cuda_runtime.h>

#include "kernels/cuda/copy_async.cuh"
#include "kernels/cuda/dynamic_shared.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/pair.cuh"
#include "kernels/cuda/testing/tile_products_cuda.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr int kSide = 16, kMostDepth = 64, kPieceElements = kPieceBytes / 2;
constexpr int kRowTileBytes = kSide * kPanelRowBytes, kColumnTileBytes = kMostDepth * kPanelRowBytes;
constexpr int kSharedBytes = 2 * (kRowTileBytes + kColumnTileBytes);

template <typename T>
struct Pointers {
  const T *a, *b, *a_columns, *b_columns;
  float *by_rows, *by_columns, *chained;
};

// All 64 columns or rows of depth, zeros behind `depth`.
template <typename T>
__device__ void CopyByRows(const MmaTile<kSide>& tile, const T* from, int depth) {
  for (int piece = static_cast<int>(threadIdx.x); piece < kSide * kMostDepth / kPieceElements; piece += kMmaLanes) {
    const int row = piece % kSide, column = piece / kSide * kPieceElements;
    const bool present = column < depth;
    CopyAsync<kPieceBytes>(tile.Piece(row, column), from + (present ? row * depth + column : 0), present);
  }
}
template <typename T>
__device__ void CopyByColumns(const MmaTile<kMostDepth>& tile, const T* from, int depth) {
  for (int piece = static_cast<int>(threadIdx.x); piece < kSide * kMostDepth / kPieceElements; piece += kMmaLanes) {
    const int row = piece % kMostDepth, column = piece / kMostDepth * kPieceElements;
    const bool present = row < depth;
    CopyAsync<kPieceBytes>(tile.Piece(row, column), from + (present ? row * kSide + column : 0), present);
  }
}

__device__ void StoreSums(float* to, const float (&sums)[8]) {
  for (int i = 0; i < 8; ++i) {
    const MatrixPlace place = PlaceInSums({static_cast<int>(threadIdx.x), i % 4});
    to[place.row * kSide + place.column + i / 4 * kMmaColumns] = sums[i];
  }
}

template <typename T>
__device__ void MultiplyAddPair(float (&sums)[8], const OperandA& a, const OperandB (&b)[2]) {
  MultiplyAdd<T>(sums, a, b[0]);
  MultiplyAdd<T>(sums + 4, a, b[1]);
}

template <typename T>
__global__ void __launch_bounds__(kMmaLanes) TileProductsKernel(Pointers<T> p, int depth) {
  char* shared = DynamicShared();
  const MmaTile<kSide> a{shared}, b{shared + kRowTileBytes};
  const MmaTile<kMostDepth> a_columns{shared + 2 * kRowTileBytes}, b_columns{shared + 2 * kRowTileBytes + kColumnTileBytes};
  const int lane = static_cast<int>(threadIdx.x);
  CopyByRows(a, p.a, depth);
  CopyByRows(b, p.b, depth);
  CommitCopies();
  CopyByColumns(a_columns, p.a_columns, depth);
  CopyByColumns(b_columns, p.b_columns, depth);
  CommitCopies();

  OperandB of_b[2];
  float by_rows[8] = {}, by_columns[8] = {}, chained[8] = {};
  WaitCopies<1>();  // the columns are still on their way
  __syncthreads();
  for (int k = 0; k < kMostDepth; k += kMmaDepth) {
    b.B(of_b, lane, 0, k);
    MultiplyAddPair<T>(by_rows, a.A(lane, 0, k), of_b);
  }
  WaitCopies<0>();
  __syncthreads();
  for (int k = 0; k < kMostDepth; k += kMmaDepth) {
    b_columns.BTransposed(of_b, lane, k, 0);
    MultiplyAddPair<T>(by_columns, a_columns.ATransposed(lane, k, 0), of_b);
  }
  OperandA rounded;
  for (int i = 0; i < 4; ++i) rounded.pairs[i] = PackPair<T>(by_rows[2 * i], by_rows[2 * i + 1]);
  b_columns.BTransposed(of_b, lane, 0, 0);
  MultiplyAddPair<T>(chained, rounded, of_b);
  StoreSums(p.by_rows, by_rows);
  StoreSums(p.by_columns, by_columns);
  StoreSums(p.chained, chained);
}

}  // namespace

void TileProducts(Stream& stream, const TileProductsArgs& args) {
  const StreamTarget target = TargetOf(stream);
  using T = BFloat16;
  cudaLaunchConfig_t config = LaunchConfig(target, dim3(1), dim3(kMmaLanes));
  config.dynamicSmemBytes = kSharedBytes;
  const Pointers<T> pointers{.a = args.a.as<T>(),
                             .b = args.b.as<T>(),
                             .a_columns = args.a_columns.as<T>(),
                             .b_columns = args.b_columns.as<T>(),
                             .by_rows = args.by_rows.as<float>(),
                             .by_columns = args.by_columns.as<float>(),
                             .chained = args.chained.as<float>()};
  const cudaError_t error = cudaLaunchKernelEx(&config, TileProductsKernel<T>, pointers, static_cast<int>(args.depth));
  if (error != cudaSuccess) stream.Fail(ToStatus(error, "TileProducts", __FILE__, __LINE__, ""));
}

}  // namespace lycia::cuda
