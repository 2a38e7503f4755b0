// Layer norm on the CPU: a row at a time for forward and input gradient, some vectors of features at a time for the weight gradient.
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/norm/norm_rows.h"

namespace lycia::cpu {
namespace {

// What one row writes besides its statistics: gamma, beta and out.
template <typename T>
struct RowOutput {
  const T *gamma, *beta;
  T* out;
};

// Normalises row `in` of C features; the first pass over it, which sums it, is first(Lanes), which may write `in`.
template <typename V, typename T, typename First, typename A = Element<V>>
LYCIA_INLINE inline void ForwardRow(const First& first, const T* in, const RowOutput<T>& to, A* mean_out, A* rstd_out, std::int64_t C,
                                    double eps) {
  const A mean = SumVectors<V>(C, first) / static_cast<A>(C);
  const A variance = SumVectors<V>(C,
                                   [&](auto lanes) LYCIA_INLINE {
                                     const V centred = lanes.Get(in) - mean;
                                     return centred * centred;
                                   }) /
                     static_cast<A>(C);
  const A rstd = A(1) / std::sqrt(variance + static_cast<A>(eps));
  ForEachVector<V>(
      C, [&](auto lanes) LYCIA_INLINE { lanes.Put(to.out, (lanes.Get(in) - mean) * rstd * lanes.Get(to.gamma) + lanes.Get(to.beta)); });
  *mean_out = mean;
  *rstd_out = rstd;
}

// With n = (in - mean) rstd and dn = dout gamma: din = rstd (dn - mean(dn) - n mean(dn n)).
template <typename V, typename T, typename A = Element<V>>
LYCIA_INLINE inline void BackwardRow(const T* dout, const T* in, const T* gamma, A mean, A rstd, T* din, bool accumulate, std::int64_t C) {
  const Pair<A> sums = SumVectorPairs<V>(C, [&](auto lanes) LYCIA_INLINE {
    const V dn = lanes.Get(dout) * lanes.Get(gamma);
    return Pair<V>{dn, dn * ((lanes.Get(in) - mean) * rstd)};
  });
  const A mean_dn = sums.first / static_cast<A>(C), mean_dn_n = sums.second / static_cast<A>(C);
  ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
    const V n = (lanes.Get(in) - mean) * rstd;
    const V gradient = rstd * (lanes.Get(dout) * lanes.Get(gamma) - mean_dn - n * mean_dn_n);
    lanes.Put(din, accumulate ? lanes.Get(din) + gradient : gradient);
  });
}

}  // namespace

void LayerNormForward(Stream& stream, const LayerNormForwardArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.mean);
  const std::int64_t C = shape.features;
  LYCIA_CHECK(args.gamma.elements() == C && args.beta.elements() == C && args.out.elements() == shape.rows * C &&
              args.rstd.elements() == shape.rows)
      << "layer norm of " << C << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *gamma = args.gamma.as<T>(), *beta = args.beta.as<T>();
    T* out = args.out.as<T>();
    A *mean = args.mean.as<A>(), *rstd = args.rstd.as<A>();
    const Work work{.count = shape.rows, .bytes_each = 2 * C * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const T* row = in + r * C;
          ForwardRow<V>([&](auto lanes) LYCIA_INLINE { return lanes.Get(row); }, row, RowOutput<T>{gamma, beta, out + r * C}, mean + r,
                        rstd + r, C, args.eps);
        }
      });
    });
  });
}

void AddLayerNormForward(Stream& stream, const AddLayerNormForwardArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.mean);
  const std::int64_t C = shape.features, n = shape.rows * C;
  LYCIA_CHECK(args.gamma.elements() == C && args.beta.elements() == C && args.out.elements() == n && args.residual.elements() == n &&
              args.sum.elements() == n && args.rstd.elements() == shape.rows)
      << "layer norm of " << C << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *residual = args.residual.as<T>(), *gamma = args.gamma.as<T>(), *beta = args.beta.as<T>();
    T *sum = args.sum.as<T>(), *out = args.out.as<T>();
    A *mean = args.mean.as<A>(), *rstd = args.rstd.as<A>();
    const Work work{.count = shape.rows, .bytes_each = 4 * C * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const T *a = in + r * C, *b = residual + r * C;
          T* row = sum + r * C;
          const auto add = [&](auto lanes) LYCIA_INLINE {
            const V added = RoundedTo<T>(lanes.Get(a) + lanes.Get(b));
            lanes.Put(row, added);
            return added;
          };
          ForwardRow<V>(add, static_cast<const T*>(row), RowOutput<T>{gamma, beta, out + r * C}, mean + r, rstd + r, C, args.eps);
        }
      });
    });
  });
}

void LayerNormBackwardInput(Stream& stream, const LayerNormBackwardInputArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.mean);
  const std::int64_t C = shape.features;
  LYCIA_CHECK(args.gamma.elements() == C && args.dout.elements() == shape.rows * C && args.din.elements() == shape.rows * C &&
              args.rstd.elements() == shape.rows)
      << "layer norm of " << C << " ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>(), *gamma = args.gamma.as<T>();
    const A *mean = args.mean.as<A>(), *rstd = args.rstd.as<A>();
    T* din = args.din.as<T>();
    const Work work{.count = shape.rows, .bytes_each = 3 * C * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          BackwardRow<V>(dout + r * C, in + r * C, gamma, mean[r], rstd[r], din + r * C, args.accumulate, C);
        }
      });
    });
  });
}

void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.mean);
  const std::int64_t C = shape.features;
  LYCIA_CHECK(args.dgamma.elements() == C && args.dbeta.elements() == C && args.dout.elements() == shape.rows * C &&
              args.rstd.elements() == shape.rows)
      << "layer norm of " << C << " ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>();
    const A *mean = args.mean.as<A>(), *rstd = args.rstd.as<A>();
    A* const gradients[2] = {args.dgamma.as<A>(), args.dbeta.as<A>()};
    const Work work{.count = C, .unit = kElementUnit, .bytes_each = 2 * shape.rows * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        AddColumnSums<2, V>(
            Columns{shape.rows, begin, end},
            [&](std::int64_t r, auto lanes, V(&terms)[2]) LYCIA_INLINE {
              const V d = lanes.Get(dout + r * C);
              terms[0] = d * ((lanes.Get(in + r * C) - mean[r]) * rstd[r]);
              terms[1] = d;
            },
            gradients);
      });
    });
  });
}

}  // namespace lycia::cpu
