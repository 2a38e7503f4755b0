// What follows a matrix product (gemm.h) where cuBLASLt has no epilogue for it: one pass, one pack of each operand a thread
// (kernels/cuda/map.cuh). Bytes moved: the product and c once each, and every operand that is there. Bound by memory bandwidth; share of
// it: not yet run.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/map.cuh"
#include "kernels/gemm/gemm_epilogue.cuh"
#include "kernels/gemm/gemm_pass_cuda.h"

namespace lycia::cuda {
namespace {

template <typename A, typename H>
struct PassMap {
  static constexpr int kVector = kWidest<A>;
  EpilogueOperand<A, H> product;
  GemmEpilogue<A, H> epilogue;

  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    Values<A, V> s{};
    if (product.data != nullptr) s = product.template Get<V>(row, col);
    epilogue.c.template Put<V>(row, col, epilogue.template Apply<V>(row, col, s));
  }
};

template <typename A, typename H>
void Launch(Stream& stream, const GemmPassArgs& pass) {
  PassMap<A, H> f{EpilogueOperandOf<A, H>(pass.product), GemmEpilogueOf<A, H>(pass.args, pass.first)};
  GemmEpilogue<A, H>& e = f.epilogue;
  e.add_c = pass.add_c;
  LaunchMap(stream, "GemmPass", pass.count, pass.args.c.cols,
            {f.product.map(), e.c.map(), e.bias.map(), e.pre_activation.map(), e.gelu_input.map(), e.residual.map()}, f);
}

}  // namespace

void GemmPass(Stream& stream, const GemmPassArgs& pass) {
  const DType dtype = pass.args.a.dtype;  // beside it stands f32 at most
  if (dtype == DType::kF64) return Launch<double, BFloat16>(stream, pass);
  if (dtype == DType::kF16) return Launch<float, Float16>(stream, pass);
  Launch<float, BFloat16>(stream, pass);
}

}  // namespace lycia::cuda
