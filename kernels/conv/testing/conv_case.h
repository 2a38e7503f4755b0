// One convolution with both gradients, as data: run with a kernel, and compared with the definition in f64.
#ifndef LYCIA_KERNELS_CONV_TESTING_CONV_CASE_H_
#define LYCIA_KERNELS_CONV_TESTING_CONV_CASE_H_

#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/conv/conv_ref.h"
#include "kernels/gemm/testing/amx_emulator.h"
#include "kernels/gemm/testing/gemm_case.h"
#include "kernels/testing/test_tensor.h"

namespace lycia::testing {

struct ConvCase {
  DType dtype = DType::kF32, out_dtype = DType::kF32;
  ConvShape shape;
  bool packed = false;
  bool epilogue = false;                    // scale, bias, residual, ReLU
  bool accumulate = false;                  // din
  std::int64_t nan_in = -1, nan_dout = -1;  // element that is a NaN
};

struct ConvResult {
  std::vector<double> out, din, dweight, dbias;
  bool operator==(const ConvResult&) const = default;
};

// Operands are a function of the sizes, and numbers of bf16, so that one truth serves all types.
ConvResult Run(Stream& stream, const ConvCase& c);
ConvResult Truth(const ConvCase& c);
void ExpectNear(const ConvCase& c, const ConvResult& result, const ConvResult& truth);

// One of each of ConvShapes().
std::vector<ConvCase> ConvCases();

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_CONV_TESTING_CONV_CASE_H_
