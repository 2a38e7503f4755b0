// cuBLASLt without a GPU, as its documentation describes it, for tests of what we ask of it: link fake_cuda_blas.cc instead of the library,
// beside the fake runtime (runtime/device/testing). Matrices are column-major; sums are made in f64. It refuses what the documentation
// forbids: short leading dimensions, operands less aligned than was promised, saved GELU inputs that are not aligned, epilogues in f64.
#ifndef LYCIA_KERNELS_GEMM_TESTING_FAKE_CUDA_BLAS_H_
#define LYCIA_KERNELS_GEMM_TESTING_FAKE_CUDA_BLAS_H_

namespace lycia::fake_cuda {

// From now on the heuristic finds no algorithm for products with an epilogue (or finds one again).
void RefuseEpilogues(bool refuse);
// Products run so far, and how many of them had an epilogue.
int NumProducts();
int NumProductsWithEpilogue();

}  // namespace lycia::fake_cuda

#endif  // LYCIA_KERNELS_GEMM_TESTING_FAKE_CUDA_BLAS_H_
