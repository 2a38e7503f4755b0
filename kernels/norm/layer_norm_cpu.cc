// Layer norm on the CPU: a row at a time for forward and input gradient, a vector of features at a time for the weight gradient.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/vector_loop.h"
#include "kernels/norm/layer_norm.h"

namespace lycia::cpu {
namespace {

// Rows summed in registers before they join the total: short sums first keep the rounding error of f32 near sqrt(rows), not rows.
constexpr std::int64_t kRowsAtOnce = 64;

template <typename V, typename T = Element<V>>
LYCIA_INLINE inline void ForwardRow(const T* in, const T* gamma, const T* beta, T* out, T* mean_out, T* rstd_out, std::int64_t C,
                                    double eps) {
  const T mean = SumVectors<V>(C, [&](auto lanes) LYCIA_INLINE { return lanes.Get(in); }) / static_cast<T>(C);
  const T variance = SumVectors<V>(C,
                                   [&](auto lanes) LYCIA_INLINE {
                                     const V centred = lanes.Get(in) - mean;
                                     return centred * centred;
                                   }) /
                     static_cast<T>(C);
  const T rstd = T(1) / std::sqrt(variance + static_cast<T>(eps));
  ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE { lanes.Put(out, (lanes.Get(in) - mean) * rstd * lanes.Get(gamma) + lanes.Get(beta)); });
  *mean_out = mean;
  *rstd_out = rstd;
}

// With n = (in - mean) rstd and dn = dout gamma: din = rstd (dn - mean(dn) - n mean(dn n)).
template <typename V, typename T = Element<V>>
LYCIA_INLINE inline void BackwardRow(const T* dout, const T* in, const T* gamma, T mean, T rstd, T* din, bool accumulate, std::int64_t C) {
  const T mean_dn = SumVectors<V>(C, [&](auto lanes) LYCIA_INLINE { return lanes.Get(dout) * lanes.Get(gamma); }) / static_cast<T>(C);
  const T mean_dn_n =
      SumVectors<V>(C, [&](auto lanes) LYCIA_INLINE { return lanes.Get(dout) * lanes.Get(gamma) * ((lanes.Get(in) - mean) * rstd); }) /
      static_cast<T>(C);
  ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
    const V n = (lanes.Get(in) - mean) * rstd;
    const V gradient = rstd * (lanes.Get(dout) * lanes.Get(gamma) - mean_dn - n * mean_dn_n);
    lanes.Put(din, accumulate ? lanes.Get(din) + gradient : gradient);
  });
}

// Adds the column sums of dout * n and of dout for one vector of features.
template <typename V, bool kWhole, typename T = Element<V>>
LYCIA_INLINE inline void WeightColumns(const Lanes<V, kWhole>& lanes, const T* dout, const T* in, const T* mean, const T* rstd,
                                       std::int64_t rows, std::int64_t C, T* dgamma, T* dbeta) {
  V gamma_total{}, beta_total{};
  for (std::int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    V gamma_sum{}, beta_sum{};
    for (std::int64_t r = begin; r < std::min(begin + kRowsAtOnce, rows); ++r) {
      const V d = lanes.Get(dout + r * C);
      gamma_sum += d * ((lanes.Get(in + r * C) - mean[r]) * rstd[r]);
      beta_sum += d;
    }
    gamma_total += gamma_sum;
    beta_total += beta_sum;
  }
  lanes.Put(dgamma, lanes.Get(dgamma) + gamma_total);
  lanes.Put(dbeta, lanes.Get(dbeta) + beta_total);
}

struct RowShape {
  std::int64_t rows, features;
};
RowShape ShapeOf(const ConstTensor& in, const ConstTensor& mean, const ConstTensor& rstd) {
  const ConstMatrix matrix = AsMatrix(in);
  LYCIA_CHECK_GT(matrix.cols, 0);
  LYCIA_CHECK_EQ(mean.elements(), matrix.rows);
  LYCIA_CHECK_EQ(rstd.elements(), matrix.rows);
  return {matrix.rows, matrix.cols};
}

}  // namespace

void LayerNormForward(Stream&, const LayerNormForwardArgs& args) {
  const auto [rows, C] = ShapeOf(args.in, args.mean, args.rstd);
  LYCIA_CHECK(args.gamma.elements() == C && args.beta.elements() == C && args.out.elements() == rows * C)
      << "layer norm of " << C << " features ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T *in = args.in.as<T>(), *gamma = args.gamma.as<T>(), *beta = args.beta.as<T>();
    T *out = args.out.as<T>(), *mean = args.mean.as<T>(), *rstd = args.rstd.as<T>();
    ForBestIsa([&, rows = rows, C = C](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      for (std::int64_t r = 0; r < rows; ++r) ForwardRow<V>(in + r * C, gamma, beta, out + r * C, mean + r, rstd + r, C, args.eps);
    });
  });
}

void LayerNormBackwardInput(Stream&, const LayerNormBackwardInputArgs& args) {
  const auto [rows, C] = ShapeOf(args.in, args.mean, args.rstd);
  LYCIA_CHECK(args.gamma.elements() == C && args.dout.elements() == rows * C && args.din.elements() == rows * C)
      << "layer norm of " << C << " ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>(), *gamma = args.gamma.as<T>(), *mean = args.mean.as<T>(),
            *rstd = args.rstd.as<T>();
    T* din = args.din.as<T>();
    ForBestIsa([&, rows = rows, C = C](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      for (std::int64_t r = 0; r < rows; ++r)
        BackwardRow<V>(dout + r * C, in + r * C, gamma, mean[r], rstd[r], din + r * C, args.accumulate, C);
    });
  });
}

void LayerNormBackwardWeight(Stream&, const LayerNormBackwardWeightArgs& args) {
  const auto [rows, C] = ShapeOf(args.in, args.mean, args.rstd);
  LYCIA_CHECK(args.dgamma.elements() == C && args.dbeta.elements() == C && args.dout.elements() == rows * C)
      << "layer norm of " << C << " ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>(), *mean = args.mean.as<T>(), *rstd = args.rstd.as<T>();
    T *dgamma = args.dgamma.as<T>(), *dbeta = args.dbeta.as<T>();
    ForBestIsa([&, rows = rows, C = C](auto isa) LYCIA_INLINE {
      using V = Vector<T, decltype(isa)::value>;
      ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE { WeightColumns(lanes, dout, in, mean, rstd, rows, C, dgamma, dbeta); });
    });
  });
}

}  // namespace lycia::cpu
