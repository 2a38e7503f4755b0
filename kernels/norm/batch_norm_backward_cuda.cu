// Batch norm on CUDA, backward. The sums are reductions over the rows of a group (kernels/cuda/columns.cuh), the input gradient a map
// (kernels/cuda/map.cuh). Bytes moved, in elements of the images: sums 2, with a ReLU 3; input gradient 3, with a ReLU and a residual 5.
// Bound by memory bandwidth; share of it: not yet run (tests/gpu measures it).
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/norm/batch_norm.h"
#include "kernels/norm/batch_norm_cuda.h"

namespace lycia::cuda {
namespace {

// d: dout where out > 0 or no number, else 0.
template <typename A, int V, typename T>
__device__ Values<A, V> Passed(const T* dout, const T* relu_out, std::int64_t at) {
  Values<A, V> d = Load<V>(dout + at);
  if (relu_out == nullptr) return d;
  const Values<A, V> y = Load<V>(relu_out + at);
#pragma unroll
  for (int k = 0; k < V; ++k) d[k] = y[k] <= A(0) ? A(0) : d[k];
  return d;
}

template <typename T>
struct BackwardSums {
  using Number = Arithmetic<T>;
  static constexpr int kNumbers = 2, kVector = kWidest<T>;
  const T *dout, *in, *relu_out;
  const Number *mean, *rstd;
  Number *sum_d, *sum_dn;  // [G, C], =
  std::int64_t rows, C;
  template <int V>
  __device__ void Add(Number (&s)[2][V], std::int64_t, std::int64_t row, std::int64_t col) const {
    const std::int64_t at = row * C + col, group = SplitIndex(row, rows).row * C + col;
    const Values<Number, V> d = Passed<Number, V>(dout, relu_out, at), x = Load<V>(in + at), m = LoadStatistics<V>(mean + group),
                            q = LoadStatistics<V>(rstd + group);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      s[0][k] += d[k];
      s[1][k] += d[k] * ((x[k] - m[k]) * q[k]);
    }
  }
  static __device__ void Merge(Number (&s)[2], std::int64_t, const Number (&other)[2], std::int64_t) { MergeSums(s, other); }
  __device__ void Finish(std::int64_t group, std::int64_t col, const Number (&s)[2]) const {
    sum_d[group * C + col] = s[0];
    sum_dn[group * C + col] = s[1];
  }
};

template <typename T>
struct BackwardInputMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<T>;
  const T *dout, *in, *gamma, *relu_out;
  const A *mean, *rstd, *sum_d, *sum_dn;
  T *din, *dresidual;
  std::int64_t rows, C;
  bool accumulate;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    const std::int64_t at = row * C + col, group = SplitIndex(row, rows).row * C + col;
    const A share = A(1) / static_cast<A>(rows);
    const Values<A, V> d = Passed<A, V>(dout, relu_out, at), x = Load<V>(in + at), g = Load<V>(gamma + col),
                       m = LoadStatistics<V>(mean + group), q = LoadStatistics<V>(rstd + group), sd = LoadStatistics<V>(sum_d + group),
                       sdn = LoadStatistics<V>(sum_dn + group);
    Values<A, V> y;
#pragma unroll
    for (int k = 0; k < V; ++k) y[k] = g[k] * q[k] * (d[k] - sd[k] * share - (x[k] - m[k]) * q[k] * (sdn[k] * share));
    if (accumulate) {
      const Values<A, V> before = Load<V>(din + at);
#pragma unroll
      for (int k = 0; k < V; ++k) y[k] += before[k];
    }
    Store<V>(din + at, y);
    if (dresidual != nullptr) Store<V>(dresidual + at, d);
  }
};

template <typename A>
struct BackwardWeightMap {
  static constexpr int kVector = 1;
  const A *sum_d, *sum_dn;
  A *dgamma, *dbeta;
  std::int64_t groups, C;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t c) const {
    A g = dgamma[c], b = dbeta[c];
    for (std::int64_t i = 0; i < groups; ++i) g += sum_dn[i * C + c], b += sum_d[i * C + c];
    dgamma[c] = g;
    dbeta[c] = b;
  }
};

}  // namespace

void BatchNormBackwardSums(Stream& stream, const BatchNormBackwardSumsArgs& args) {
  if (args.in.elements() == 0) return;
  const GroupShape s = GroupsOf(args.in, args.mean);
  CheckElements("dout", args.dout, args.in.elements());
  CheckElements("rstd", args.rstd, s.groups * s.C);
  CheckElements("sum_d", args.sum_d, s.groups * s.C);
  CheckElements("sum_dn", args.sum_dn, s.groups * s.C);
  if (args.relu_out.data != nullptr) CheckElements("relu_out", args.relu_out, args.in.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const BackwardSums<T> sums{.dout = args.dout.as<T>(),
                               .in = args.in.as<T>(),
                               .relu_out = DataOf<T>(args.relu_out),
                               .mean = args.mean.as<A>(),
                               .rstd = args.rstd.as<A>(),
                               .sum_d = args.sum_d.as<A>(),
                               .sum_dn = args.sum_dn.as<A>(),
                               .rows = s.rows,
                               .C = s.C};
    LaunchColumns(
        stream, "BatchNormBackwardSums", s.groups, s.rows, s.C,
        {Rows(sums.dout, s.C), Rows(sums.in, s.C), Rows(sums.relu_out, s.C), {sums.mean, sizeof(T), s.C}, {sums.rstd, sizeof(T), s.C}},
        sums);
  });
}

void BatchNormBackwardInput(Stream& stream, const BatchNormBackwardInputArgs& args) {
  if (args.in.elements() == 0) return;
  const GroupShape s = GroupsOf(args.in, args.mean);
  CheckElements("dout", args.dout, args.in.elements());
  CheckElements("din", args.din, args.in.elements());
  CheckElements("gamma", args.gamma, s.C);
  for (const ConstTensor& tensor : {args.rstd, args.sum_d, args.sum_dn}) CheckElements("a statistic", tensor, s.groups * s.C);
  if (args.relu_out.data != nullptr) CheckElements("relu_out", args.relu_out, args.in.elements());
  if (args.dresidual.data != nullptr) CheckElements("dresidual", args.dresidual, args.in.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const BackwardInputMap<T> f{.dout = args.dout.as<T>(),
                                .in = args.in.as<T>(),
                                .gamma = args.gamma.as<T>(),
                                .relu_out = DataOf<T>(args.relu_out),
                                .mean = args.mean.as<A>(),
                                .rstd = args.rstd.as<A>(),
                                .sum_d = args.sum_d.as<A>(),
                                .sum_dn = args.sum_dn.as<A>(),
                                .din = args.din.as<T>(),
                                .dresidual = args.dresidual.data == nullptr ? nullptr : args.dresidual.as<T>(),
                                .rows = s.rows,
                                .C = s.C,
                                .accumulate = args.accumulate};
    LaunchMap(stream, "BatchNormBackwardInput", s.groups * s.rows, s.C,
              {Rows(f.dout, s.C),
               Rows(f.in, s.C),
               Rows(f.gamma, s.C),
               Rows(f.relu_out, s.C),
               Rows(f.din, s.C),
               Rows(f.dresidual, s.C),
               {f.mean, sizeof(T), s.C},
               {f.rstd, sizeof(T), s.C},
               {f.sum_d, sizeof(T), s.C},
               {f.sum_dn, sizeof(T), s.C}},
              f);
  });
}

void BatchNormBackwardWeight(Stream& stream, const BatchNormBackwardWeightArgs& args) {
  const std::int64_t C = args.dgamma.elements();
  CheckElements("dbeta", args.dbeta, C);
  CheckElements("sum_dn", args.sum_dn, args.sum_d.elements());
  LYCIA_CHECK(C > 0 && args.sum_d.elements() % C == 0) << "batch norm: " << args.sum_d.elements() << " sums for " << C << " channels ";
  DispatchFloat(args.dgamma.dtype, [&]<typename A>() {
    const BackwardWeightMap<A> f{args.sum_d.as<A>(), args.sum_dn.as<A>(),       args.dgamma.as<A>(),
                                 args.dbeta.as<A>(), args.sum_d.elements() / C, C};
    LaunchMap(stream, "BatchNormBackwardWeight", 1, C, {}, f);
  });
}

}  // namespace lycia::cuda
