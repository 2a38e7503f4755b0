// What follows a matrix product (gemm.h) where cuBLASLt has no epilogue for it: one pass, one pack of each operand a thread
// (kernels/cuda/map.cuh). Bytes moved: the product and c once each, and every operand that is there. Bound by memory bandwidth; share of
// it: not yet run.
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/activation/gelu_cuda.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/gemm/gemm_pass_cuda.h"

namespace lycia::cuda {
namespace {

// A matrix beside a product that is computed in A: of A, or where A is float of H, bf16 or f16.
template <typename A, typename H>
struct Operand {
  void* data = nullptr;
  std::int64_t ld = 0;
  bool narrow = false;

  explicit operator bool() const { return data != nullptr; }
  MapOperand map() const { return {data, static_cast<std::int64_t>(narrow ? sizeof(H) : sizeof(A)), ld}; }
  template <int V>
  __device__ Values<A, V> Get(std::int64_t row, std::int64_t col) const {
    if constexpr (std::is_same_v<A, float>) {
      if (narrow) return Load<V>(static_cast<const H*>(data) + row * ld + col);
    }
    return Load<V>(static_cast<const A*>(data) + row * ld + col);
  }
  template <int V>
  __device__ void Put(std::int64_t row, std::int64_t col, const Values<A, V>& values) const {
    if constexpr (std::is_same_v<A, float>) {
      if (narrow) return Store<V>(static_cast<H*>(data) + row * ld + col, values);
    }
    Store<V>(static_cast<A*>(data) + row * ld + col, values);
  }
};

template <typename A, typename H>
struct PassMap {
  static constexpr int kVector = kWidest<A>;
  Operand<A, H> product, c, bias, pre, gelu_input, residual;
  bool add_c = false, gelu = false;

  template <int V>
  __device__ static void Add(Values<A, V>& sum, const Values<A, V>& x) {
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] += x[k];
  }
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    Values<A, V> s{};
    if (product.data != nullptr) s = product.template Get<V>(row, col);
    if (add_c) Add<V>(s, c.template Get<V>(row, col));
    if (bias.data != nullptr) Add<V>(s, bias.template Get<V>(0, col));
    if (pre.data != nullptr) pre.template Put<V>(row, col, s);
    if (gelu) {
#pragma unroll
      for (int k = 0; k < V; ++k) {
        if constexpr (std::is_same_v<A, float>) {
          if (c.narrow) s[k] = Widen(Round<H>(s[k]));  // so that it is the GELU of pre_activation
        }
        s[k] = GeluOf(s[k]);
      }
    }
    if (gelu_input.data != nullptr) {
      const Values<A, V> x = gelu_input.template Get<V>(row, col);
#pragma unroll
      for (int k = 0; k < V; ++k) s[k] *= GeluSlopeOf(x[k]);
    }
    if (residual.data != nullptr) Add<V>(s, residual.template Get<V>(row, col));
    c.template Put<V>(row, col, s);
  }
};

// Rows from `first` on.
template <typename A, typename H>
Operand<A, H> At(const ConstMatrix& matrix, std::int64_t first) {
  if (matrix.data == nullptr) return {};
  const std::int64_t skipped = first * matrix.ld * SizeOf(matrix.dtype);
  return {const_cast<char*>(static_cast<const char*>(matrix.data)) + skipped, matrix.ld, matrix.dtype == DTypeOf<H>::value};
}

template <typename A, typename H>
void Launch(Stream& stream, const GemmPassArgs& pass) {
  const GemmArgs& args = pass.args;
  const std::int64_t n = args.c.cols;
  PassMap<A, H> f;
  f.product = At<A, H>(pass.product, 0);
  f.c = At<A, H>(args.c, pass.first);
  if (args.bias.data != nullptr) f.bias = At<A, H>({args.bias.data, args.bias.dtype, 1, n, 0}, 0);
  f.pre = At<A, H>(args.pre_activation, pass.first);
  f.gelu_input = At<A, H>(args.gelu_input, pass.first);
  f.residual = At<A, H>(args.residual, pass.first);
  f.add_c = pass.add_c;
  f.gelu = args.gelu;
  LaunchMap(stream, "GemmPass", pass.count, n,
            {f.product.map(), f.c.map(), f.bias.map(), f.pre.map(), f.gelu_input.map(), f.residual.map()}, f);
}

}  // namespace

void GemmPass(Stream& stream, const GemmPassArgs& pass) {
  const DType dtype = pass.args.a.dtype;  // beside it stands f32 at most
  if (dtype == DType::kF64) return Launch<double, BFloat16>(stream, pass);
  if (dtype == DType::kF16) return Launch<float, Float16>(stream, pass);
  Launch<float, BFloat16>(stream, pass);
}

}  // namespace lycia::cuda
