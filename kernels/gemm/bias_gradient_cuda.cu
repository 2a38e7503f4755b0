// dbias += column sums of dout on CUDA (kernels/cuda/columns.cuh). Bytes moved: dout, once. Bound by memory bandwidth; share of it: not yet
// run (tests/gpu measures it). Sums are f32 (f64), rows / (splits * warps) + 16 + splits / 8 + 8 additions deep.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/columns.cuh"
#include "kernels/gemm/gemm.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct ColumnSum {
  using Number = Arithmetic<T>;
  static constexpr int kNumbers = 1, kVector = kWidest<T>;
  const T* dout;
  std::int64_t ld;
  Number* dbias;
  template <int V>
  __device__ void Add(Number (&s)[1][V], std::int64_t, std::int64_t row, std::int64_t col) const {
    const Values<Number, V> d = Load<V>(dout + row * ld + col);
#pragma unroll
    for (int k = 0; k < V; ++k) s[0][k] += d[k];
  }
  static __device__ void Merge(Number (&s)[1], std::int64_t, const Number (&other)[1], std::int64_t) { MergeSums(s, other); }
  __device__ void Finish(std::int64_t, std::int64_t col, const Number (&s)[1]) const { dbias[col] += s[0]; }
};

}  // namespace

void BiasGradient(Stream& stream, const BiasGradientArgs& args) {
  LYCIA_CHECK_EQ(args.dbias.elements(), args.dout.cols);
  DispatchAnyStored(args.dout.dtype, [&]<typename T>() {
    const ColumnSum<T> sum{static_cast<const T*>(args.dout.data), args.dout.ld, args.dbias.as<Arithmetic<T>>()};
    LaunchColumns(stream, "BiasGradient", 1, args.dout.rows, args.dout.cols, {{sum.dout, sizeof(T), sum.ld}}, sum);
  });
}

}  // namespace lycia::cuda
