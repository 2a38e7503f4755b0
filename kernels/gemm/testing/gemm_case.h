// One product with everything that Gemm can do, as data: run with a kernel, and compared with the specification in f64.
#ifndef LYCIA_KERNELS_GEMM_TESTING_GEMM_CASE_H_
#define LYCIA_KERNELS_GEMM_TESTING_GEMM_CASE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"

namespace lycia::testing {

struct GemmCase {
  DType dtype = DType::kF32;  // of a and b
  DType c_dtype = DType::kF32;
  std::int64_t m = 1, n = 1, k = 1;
  std::int64_t padding = 0;  // elements that every leading dimension is longer than its row
  bool transpose_a = false, transpose_b = false, packed = false, accumulate = false;
  bool bias = false, residual = false, gelu = false, save = false, slope = false;  // save: pre_activation; slope: gelu_input

  std::string ToString() const;
};

struct GemmResult {
  std::vector<double> c, pre;  // [m, n]; pre empty unless saved
  bool operator==(const GemmResult&) const = default;
};

// Operands are a function of the case's sizes. A failure of the test when anything outside c and pre_activation was written.
GemmResult Run(Stream& stream, const GemmCase& gemm);
// The worst of |c - truth| in units of what may be expected of f32 sums and the rounding of c: <= 1 is right.
void ExpectRight(const GemmCase& gemm, const GemmResult& result);

// f(kernel) for each kernel of this type, selected while it runs. AMX is emulated where it is not there.
void ForEveryKernel(DType dtype, absl::FunctionRef<void(const cpu::MicroKernel&)> f);

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_GEMM_TESTING_GEMM_CASE_H_
