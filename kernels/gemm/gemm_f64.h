// Products of f64 by the BLAS: where layouts are proven equal, not where models train.
#ifndef LYCIA_KERNELS_GEMM_GEMM_F64_H_
#define LYCIA_KERNELS_GEMM_GEMM_F64_H_

#include "kernels/gemm/gemm.h"

namespace lycia::cpu {

// args as Gemm checked them, f64. On the calling thread.
void MultiplyF64(const GemmArgs& args);
// A packed f64 matrix is b as it lies, row after row, behind a header that says whether it is transposed: products have the same bits,
// packed or not.
inline constexpr std::int64_t kPackedF64Header = 64;
void PackF64(const PackMatrixArgs& args);

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_GEMM_F64_H_
