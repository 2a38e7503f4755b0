// The gradients of the gamma and beta of layer norm and of RMS norm's gamma on CUDA: sums over the rows (kernels/cuda/columns.cuh). Bytes
// moved: 2 * rows * cols elements (x, dout), once. Bound by memory bandwidth; share of it: not yet run (tests/gpu measures it). Sums are
// f32 (f64), rows / (splits * warps) + 16 + splits / 8 + 8 additions deep.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/columns.cuh"
#include "kernels/norm/layer_norm.h"
#include "kernels/norm/rms_norm.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct LayerNormWeight {
  using Number = Arithmetic<T>;
  enum { kGamma, kBeta };
  static constexpr int kNumbers = 2, kVector = kWidest<T>;
  const T *dout, *in;         // [rows, cols]
  const Number *mean, *rstd;  // [rows]
  Number *dgamma, *dbeta;     // [cols], +=
  std::int64_t cols;
  template <int V>
  __device__ void Add(Number (&s)[2][V], std::int64_t, std::int64_t row, std::int64_t col) const {
    const Values<Number, V> d = Load<V>(dout + row * cols + col), x = Load<V>(in + row * cols + col);
    const Number m = mean[row], r = rstd[row];
#pragma unroll
    for (int k = 0; k < V; ++k) {
      s[kGamma][k] += d[k] * ((x[k] - m) * r);
      s[kBeta][k] += d[k];
    }
  }
  static __device__ void Merge(Number (&s)[2], std::int64_t, const Number (&other)[2], std::int64_t) { MergeSums(s, other); }
  __device__ void Finish(std::int64_t, std::int64_t col, const Number (&s)[2]) const {
    dgamma[col] += s[kGamma];
    dbeta[col] += s[kBeta];
  }
};

template <typename T>
struct RmsNormWeight {
  using Number = Arithmetic<T>;
  static constexpr int kNumbers = 1, kVector = kWidest<T>;
  const T *dout, *in;  // [rows, cols]
  const Number* rstd;  // [rows]
  Number* dgamma;      // [cols], +=
  std::int64_t cols;
  template <int V>
  __device__ void Add(Number (&s)[1][V], std::int64_t, std::int64_t row, std::int64_t col) const {
    const Values<Number, V> d = Load<V>(dout + row * cols + col), x = Load<V>(in + row * cols + col);
    const Number r = rstd[row];
#pragma unroll
    for (int k = 0; k < V; ++k) s[0][k] += d[k] * (x[k] * r);
  }
  static __device__ void Merge(Number (&s)[1], std::int64_t, const Number (&other)[1], std::int64_t) { MergeSums(s, other); }
  __device__ void Finish(std::int64_t, std::int64_t col, const Number (&s)[1]) const { dgamma[col] += s[0]; }
};

}  // namespace

void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const LayerNormWeight<T> sums{args.dout.as<T>(),  args.in.as<T>(), args.mean.as<A>(), args.rstd.as<A>(), args.dgamma.as<A>(),
                                  args.dbeta.as<A>(), in.cols};
    LaunchColumns(stream, "LayerNormBackwardWeight", 1, in.rows, in.cols, {{sums.dout, sizeof(T), in.cols}, {sums.in, sizeof(T), in.cols}},
                  sums);
  });
}

void RmsNormBackwardWeight(Stream& stream, const RmsNormBackwardWeightArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const RmsNormWeight<T> sums{args.dout.as<T>(), args.in.as<T>(), args.rstd.as<A>(), args.dgamma.as<A>(), in.cols};
    LaunchColumns(stream, "RmsNormBackwardWeight", 1, in.rows, in.cols, {{sums.dout, sizeof(T), in.cols}, {sums.in, sizeof(T), in.cols}},
                  sums);
  });
}

}  // namespace lycia::cuda
