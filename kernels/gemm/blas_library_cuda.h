// cuBLASLt, opened when the first product needs it: half a gigabyte that a program without a GPU neither loads nor has to bring along.
#ifndef LYCIA_KERNELS_GEMM_BLAS_LIBRARY_CUDA_H_
#define LYCIA_KERNELS_GEMM_BLAS_LIBRARY_CUDA_H_

#include <cublasLt.h>

#include "runtime/core/status.h"

namespace lycia::cuda {

#define LYCIA_BLAS_FUNCTIONS(F)      \
  F(cublasLtCreate)                  \
  F(cublasLtDestroy)                 \
  F(cublasLtGetStatusString)         \
  F(cublasLtMatmul)                  \
  F(cublasLtMatmulAlgoGetHeuristic)  \
  F(cublasLtMatmulDescCreate)        \
  F(cublasLtMatmulDescDestroy)       \
  F(cublasLtMatmulDescSetAttribute)  \
  F(cublasLtMatrixLayoutCreate)      \
  F(cublasLtMatrixLayoutDestroy)     \
  F(cublasLtMatmulPreferenceCreate)  \
  F(cublasLtMatmulPreferenceDestroy) \
  F(cublasLtMatmulPreferenceSetAttribute)

struct BlasLibrary {
#define LYCIA_BLAS_MEMBER(name) decltype(&::name) name = nullptr;
  LYCIA_BLAS_FUNCTIONS(LYCIA_BLAS_MEMBER)
#undef LYCIA_BLAS_MEMBER
};

// The same for every caller of the process. Unavailable, with the loader's words, where the library is not found.
StatusOr<const BlasLibrary*> OpenBlasLibrary();

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_GEMM_BLAS_LIBRARY_CUDA_H_
