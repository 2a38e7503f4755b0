// Batch norm on CUDA, forward. Statistics are a reduction over the rows of a group (kernels/cuda/columns.cuh): mean and squares about it in
// one pass (Welford 1962), merged as Chan, Golub & LeVeque (1979) do. Bytes moved, in elements of the images: forward 3 (in twice, out),
// with a residual 4; evaluation 2 and 3. Bound by memory bandwidth; share of it: not yet run (tests/gpu measures it).
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/norm/batch_norm.h"
#include "kernels/norm/batch_norm_cuda.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct Moments {
  using Number = Arithmetic<T>;
  enum { kMean, kSquares };  // squares: sum of (in - mean)²
  static constexpr int kNumbers = 2, kVector = kWidest<T>;
  const T* in;                     // [G * rows, C]
  Number *mean, *rstd, *variance;  // [G, C], variance may be null
  std::int64_t rows, C;
  Number eps;
  template <int V>
  __device__ void Add(Number (&s)[2][V], std::int64_t count, std::int64_t row, std::int64_t col) const {
    const Values<Number, V> x = Load<V>(in + row * C + col);
    const Number share = Number(1) / static_cast<Number>(count + 1);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const Number apart = x[k] - s[kMean][k];
      s[kMean][k] += apart * share;
      s[kSquares][k] += apart * (x[k] - s[kMean][k]);
    }
  }
  static __device__ void Merge(Number (&s)[2], std::int64_t count, const Number (&other)[2], std::int64_t others) {
    if (others == 0) return;
    const Number share = static_cast<Number>(others) / static_cast<Number>(count + others), apart = other[kMean] - s[kMean];
    s[kMean] += apart * share;
    s[kSquares] += other[kSquares] + apart * apart * (static_cast<Number>(count) * share);
  }
  __device__ void Finish(std::int64_t group, std::int64_t col, const Number (&s)[2]) const {
    const Number of_rows = s[kSquares] / static_cast<Number>(rows);
    mean[group * C + col] = s[kMean];
    rstd[group * C + col] = Number(1) / sqrt(of_rows + eps);
    if (variance != nullptr) variance[group * C + col] = of_rows;
  }
};

// out = (in - mean) rstd gamma + beta (+ residual), at least 0 with relu. With a variance rstd is made of it.
template <typename T>
struct ApplyMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<T>;
  const T *in, *gamma, *beta, *residual;
  const A *mean, *rstd, *variance;  // [G, C], one of the last two
  T* out;
  std::int64_t rows, C;
  A eps;
  bool relu;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    const std::int64_t at = row * C + col, group = SplitIndex(row, rows).row * C + col;
    Values<A, V> x = Load<V>(in + at);
    const Values<A, V> m = LoadStatistics<V>(mean + group), g = Load<V>(gamma + col), b = Load<V>(beta + col);
    Values<A, V> q = LoadStatistics<V>((rstd != nullptr ? rstd : variance) + group);
    if (rstd == nullptr) {
#pragma unroll
      for (int k = 0; k < V; ++k) q[k] = A(1) / sqrt(q[k] + eps);
    }
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] = (x[k] - m[k]) * q[k] * g[k] + b[k];
    if (residual != nullptr) {
      const Values<A, V> r = Load<V>(residual + at);
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] += r[k];
    }
    if (relu) {
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] = x[k] < A(0) ? A(0) : x[k];
    }
    Store<V>(out + at, x);
  }
  void Launch(Stream& stream, const char* kernel, std::int64_t all) const {
    LaunchMap(stream, kernel, all, C,
              {Rows(in, C),
               Rows(residual, C),
               Rows(out, C),
               Rows(gamma, C),
               Rows(beta, C),
               {mean, sizeof(T), C},
               {rstd, sizeof(T), C},
               {variance, sizeof(T), C}},
              *this);
  }
};

template <typename T>
struct FoldMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = 1;
  const T *gamma, *beta;
  const A *mean, *variance;
  A *scale, *bias;
  A eps;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t c) const {
    const A s = Widen(gamma[c]) / sqrt(variance[c] + eps);
    scale[c] = s;
    bias[c] = Widen(beta[c]) - mean[c] * s;
  }
};

// Groups in their order.
template <typename A>
struct UpdateRunningMap {
  static constexpr int kVector = 1;
  const A *mean, *variance;
  A *running_mean, *running_variance;
  std::int64_t groups, C;
  A momentum, unbiased;
  template <int V>
  __device__ void Run(std::int64_t, std::int64_t c) const {
    A m = running_mean[c], v = running_variance[c];
    for (std::int64_t g = 0; g < groups; ++g) {
      m = (A(1) - momentum) * m + momentum * mean[g * C + c];
      v = (A(1) - momentum) * v + momentum * (variance[g * C + c] * unbiased);
    }
    running_mean[c] = m;
    running_variance[c] = v;
  }
};
}  // namespace

void BatchNormForward(Stream& stream, const BatchNormForwardArgs& args) {
  LYCIA_CHECK(args.samples > 0 && args.in.shape[0] % args.samples == 0)
      << "batch norm: groups of " << args.samples << " samples do not divide " << args.in.shape[0] << " ";
  if (args.in.elements() == 0) return;
  const GroupShape s = GroupsOf(args.in, args.mean);
  LYCIA_CHECK_EQ(s.groups, args.in.shape[0] / args.samples);
  CheckElements("gamma", args.gamma, s.C);
  CheckElements("beta", args.beta, s.C);
  CheckElements("rstd", args.rstd, s.groups * s.C);
  CheckElements("out", args.out, args.in.elements());
  if (args.residual.data != nullptr) CheckElements("residual", args.residual, args.in.elements());
  if (args.variance.data != nullptr) CheckElements("variance", args.variance, s.groups * s.C);
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const Moments<T> moments{.in = args.in.as<T>(),
                             .mean = args.mean.as<A>(),
                             .rstd = args.rstd.as<A>(),
                             .variance = args.variance.data == nullptr ? nullptr : args.variance.as<A>(),
                             .rows = s.rows,
                             .C = s.C,
                             .eps = static_cast<A>(args.eps)};
    LaunchColumns(stream, "BatchNormForward", s.groups, s.rows, s.C, {Rows(moments.in, s.C)}, moments);
    ApplyMap<T>{.in = moments.in,
                .gamma = args.gamma.as<T>(),
                .beta = args.beta.as<T>(),
                .residual = DataOf<T>(args.residual),
                .mean = moments.mean,
                .rstd = moments.rstd,
                .variance = nullptr,
                .out = args.out.as<T>(),
                .rows = s.rows,
                .C = s.C,
                .eps = 0,
                .relu = args.relu}
        .Launch(stream, "BatchNormForward", s.groups * s.rows);
  });
}

void BatchNormEvaluate(Stream& stream, const BatchNormEvaluateArgs& args) {
  if (args.in.elements() == 0) return;
  const GroupShape s = GroupsOf(args.in, args.mean);
  LYCIA_CHECK_EQ(s.groups, 1);
  CheckElements("gamma", args.gamma, s.C);
  CheckElements("beta", args.beta, s.C);
  CheckElements("variance", args.variance, s.C);
  CheckElements("out", args.out, args.in.elements());
  if (args.residual.data != nullptr) CheckElements("residual", args.residual, args.in.elements());
  DispatchAnyStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    ApplyMap<T>{.in = args.in.as<T>(),
                .gamma = args.gamma.as<T>(),
                .beta = args.beta.as<T>(),
                .residual = DataOf<T>(args.residual),
                .mean = args.mean.as<A>(),
                .rstd = nullptr,
                .variance = args.variance.as<A>(),
                .out = args.out.as<T>(),
                .rows = s.rows,
                .C = s.C,
                .eps = static_cast<A>(args.eps),
                .relu = args.relu}
        .Launch(stream, "BatchNormEvaluate", s.rows);
  });
}

void BatchNormFold(Stream& stream, const BatchNormFoldArgs& args) {
  const std::int64_t C = args.gamma.elements();
  for (const ConstTensor& tensor : {args.beta, args.mean, args.variance, ConstTensor(args.scale), ConstTensor(args.bias)}) {
    CheckElements("a vector of channels", tensor, C);
  }
  DispatchAnyStored(args.gamma.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const FoldMap<T> f{args.gamma.as<T>(), args.beta.as<T>(), args.mean.as<A>(),       args.variance.as<A>(),
                       args.scale.as<A>(), args.bias.as<A>(), static_cast<A>(args.eps)};
    LaunchMap(stream, "BatchNormFold", 1, C, {}, f);
  });
}

void BatchNormUpdateRunning(Stream& stream, const BatchNormUpdateRunningArgs& args) {
  const std::int64_t C = args.running_mean.elements();
  CheckElements("running variance", args.running_variance, C);
  CheckElements("variance", args.variance, args.mean.elements());
  LYCIA_CHECK(C > 0 && args.mean.elements() % C == 0) << "batch norm: " << args.mean.elements() << " statistics for " << C << " channels ";
  DispatchFloat(args.running_mean.dtype, [&]<typename A>() {
    const A rows = static_cast<A>(args.rows);
    const UpdateRunningMap<A> f{.mean = args.mean.as<A>(),
                                .variance = args.variance.as<A>(),
                                .running_mean = args.running_mean.as<A>(),
                                .running_variance = args.running_variance.as<A>(),
                                .groups = args.mean.elements() / C,
                                .C = C,
                                .momentum = static_cast<A>(args.momentum),
                                .unbiased = args.rows > 1 ? rows / (rows - 1) : A(1)};
    LaunchMap(stream, "BatchNormUpdateRunning", 1, C, {}, f);
  });
}

}  // namespace lycia::cuda
