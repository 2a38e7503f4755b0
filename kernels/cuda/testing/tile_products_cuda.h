// One warp's products by the parts that kernels for sm_80 are made of, for their test (tests/gpu/mma_test.cc).
#ifndef LYCIA_KERNELS_CUDA_TESTING_TILE_PRODUCTS_CUDA_H_
#define LYCIA_KERNELS_CUDA_TESTING_TILE_PRODUCTS_CUDA_H_

#include <cstdint>

#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia::cuda {

struct TileProductsArgs {
  std::int64_t depth = 0;            // K, a multiple of 8, at most 64
  ConstTensor a, b;                  // [16, K] bf16
  ConstTensor a_columns, b_columns;  // [K, 16] bf16: the same, transposed
  Tensor by_rows, by_columns;        // [16, 16] f32 = a bᵀ, out of a and b; out of a_columns and b_columns
  Tensor chained;                    // [16, 16] f32 = (a bᵀ, rounded) b_columns[0 ... 15]
};
void TileProducts(Stream& stream, const TileProductsArgs& args);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_CUDA_TESTING_TILE_PRODUCTS_CUDA_H_
