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

// A matrix beside a product that is computed in A: of A, or of bf16 or f16 where A is float.
template <typename A>
struct Operand {
  void* data = nullptr;
  std::int64_t ld = 0;
  DType dtype = DTypeOf<A>::value;

  explicit operator bool() const { return data != nullptr; }
  MapOperand map() const { return {data, SizeOf(dtype), ld}; }
  template <int V>
  __device__ Values<A, V> Get(std::int64_t row, std::int64_t col) const {
    if constexpr (std::is_same_v<A, float>) {
      if (dtype == DType::kBF16) return Load<V>(static_cast<const BFloat16*>(data) + row * ld + col);
      if (dtype == DType::kF16) return Load<V>(static_cast<const Float16*>(data) + row * ld + col);
    }
    return Load<V>(static_cast<const A*>(data) + row * ld + col);
  }
  template <int V>
  __device__ void Put(std::int64_t row, std::int64_t col, const Values<A, V>& values) const {
    if constexpr (std::is_same_v<A, float>) {
      if (dtype == DType::kBF16) return Store<V>(static_cast<BFloat16*>(data) + row * ld + col, values);
      if (dtype == DType::kF16) return Store<V>(static_cast<Float16*>(data) + row * ld + col, values);
    }
    Store<V>(static_cast<A*>(data) + row * ld + col, values);
  }
};

template <typename A>
struct PassMap {
  static constexpr int kVector = kWidest<A>;
  Operand<A> product, c, bias, pre, gelu_input, residual;
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
          // So that it is the GELU of pre_activation.
          if (c.dtype == DType::kBF16) s[k] = Widen(Round<BFloat16>(s[k]));
          if (c.dtype == DType::kF16) s[k] = Widen(Round<Float16>(s[k]));
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
template <typename A>
Operand<A> At(const ConstMatrix& matrix, std::int64_t first) {
  if (matrix.data == nullptr) return {};
  const std::int64_t skipped = first * matrix.ld * SizeOf(matrix.dtype);
  return {const_cast<char*>(static_cast<const char*>(matrix.data)) + skipped, matrix.ld, matrix.dtype};
}

}  // namespace

void GemmPass(Stream& stream, const GemmPassArgs& pass) {
  const GemmArgs& args = pass.args;
  const std::int64_t n = args.c.cols;
  DispatchFloat(ArithmeticDType(args.c.dtype), [&]<typename A>() {
    PassMap<A> f;
    f.product = At<A>(pass.product, 0);
    f.c = At<A>(args.c, pass.first);
    if (args.bias.data != nullptr) f.bias = At<A>({args.bias.data, args.bias.dtype, 1, n, 0}, 0);
    f.pre = At<A>(args.pre_activation, pass.first);
    f.gelu_input = At<A>(args.gelu_input, pass.first);
    f.residual = At<A>(args.residual, pass.first);
    f.add_c = pass.add_c;
    f.gelu = args.gelu;
    LaunchMap(stream, "GemmPass", pass.count, n,
              {f.product.map(), f.c.map(), f.bias.map(), f.pre.map(), f.gelu_input.map(), f.residual.map()}, f);
  });
}

}  // namespace lycia::cuda
