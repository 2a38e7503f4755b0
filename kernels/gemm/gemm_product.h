// What Gemm does before it multiplies, for products that are like Gemm's but for where an operand is read.
#ifndef LYCIA_KERNELS_GEMM_GEMM_PRODUCT_H_
#define LYCIA_KERNELS_GEMM_GEMM_PRODUCT_H_

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/micro/micro_kernel.h"

namespace lycia::cpu {

// Sizes and types: a promise of the caller.
void CheckGemm(const GemmArgs& args);
// What is done with a sum before it is written to c.
EpilogueArgs EpilogueOf(const GemmArgs& args);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_GEMM_PRODUCT_H_
