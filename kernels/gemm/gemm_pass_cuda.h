// What follows a product where cuBLASLt cannot do it: one pass over its elements.
#ifndef LYCIA_KERNELS_GEMM_GEMM_PASS_CUDA_H_
#define LYCIA_KERNELS_GEMM_GEMM_PASS_CUDA_H_

#include "kernels/gemm/gemm.h"

namespace lycia::cuda {

struct GemmPassArgs {
  ConstMatrix product;                // [count, n] f32 or f64, may be c; zeros when data is null
  GemmArgs args;                      // of the whole product
  std::int64_t first = 0, count = 0;  // rows of c
  bool add_c = false;                 // not yet in the product
};

// gemm.h's sequence from `s` on.
void GemmPass(Stream& stream, const GemmPassArgs& pass);

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_GEMM_GEMM_PASS_CUDA_H_
