// RMS norm on the CPU: a row at a time for forward and input gradient, some vectors of features at a time for the weight gradient.
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/norm/norm_rows.h"
#include "kernels/norm/rms_norm.h"

namespace lycia::cpu {
namespace {

// Normalises row `in` of C features; value(Lanes) gives its elements in the first pass and may write `in`. Returns rstd.
template <typename V, typename T, typename Value, typename A = Element<V>>
LYCIA_INLINE inline A ForwardRow(const Value& value, const T* in, const T* gamma, T* out, std::int64_t C, double eps) {
  const A squares = SumVectors<V>(C, [&](auto lanes) LYCIA_INLINE {
    const V x = value(lanes);
    return x * x;
  });
  const A rstd = A(1) / std::sqrt(squares / static_cast<A>(C) + static_cast<A>(eps));
  ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE { lanes.Put(out, lanes.Get(in) * rstd * lanes.Get(gamma)); });
  return rstd;
}

// With n = in rstd and dn = dout gamma: din = rstd (dn - n mean(dn n)).
template <typename V, typename T, typename A = Element<V>>
LYCIA_INLINE inline void BackwardRow(const T* dout, const T* in, const T* gamma, A rstd, T* din, bool accumulate, std::int64_t C) {
  const A mean_dn_n =
      SumVectors<V>(C, [&](auto lanes) LYCIA_INLINE { return lanes.Get(dout) * lanes.Get(gamma) * (lanes.Get(in) * rstd); }) /
      static_cast<A>(C);
  ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
    const V gradient = rstd * (lanes.Get(dout) * lanes.Get(gamma) - lanes.Get(in) * rstd * mean_dn_n);
    lanes.Put(din, accumulate ? lanes.Get(din) + gradient : gradient);
  });
}

}  // namespace

void RmsNormForward(Stream& stream, const RmsNormForwardArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.rstd);
  const std::int64_t C = shape.features;
  LYCIA_CHECK(args.gamma.elements() == C && args.out.elements() == shape.rows * C) << "RMS norm of " << C << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *gamma = args.gamma.as<T>();
    T* out = args.out.as<T>();
    A* rstd = args.rstd.as<A>();
    const Work work{.count = shape.rows, .bytes_each = 2 * C * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const T* row = in + r * C;
          rstd[r] = ForwardRow<V>([&](auto lanes) LYCIA_INLINE { return lanes.Get(row); }, row, gamma, out + r * C, C, args.eps);
        }
      });
    });
  });
}

void AddRmsNormForward(Stream& stream, const AddRmsNormForwardArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.rstd);
  const std::int64_t C = shape.features, n = shape.rows * C;
  LYCIA_CHECK(args.gamma.elements() == C && args.out.elements() == n && args.residual.elements() == n && args.sum.elements() == n)
      << "RMS norm of " << C << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *residual = args.residual.as<T>(), *gamma = args.gamma.as<T>();
    T *sum = args.sum.as<T>(), *out = args.out.as<T>();
    A* rstd = args.rstd.as<A>();
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
          rstd[r] = ForwardRow<V>(add, static_cast<const T*>(row), gamma, out + r * C, C, args.eps);
        }
      });
    });
  });
}

void RmsNormBackwardInput(Stream& stream, const RmsNormBackwardInputArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.rstd);
  const std::int64_t C = shape.features;
  LYCIA_CHECK(args.gamma.elements() == C && args.dout.elements() == shape.rows * C && args.din.elements() == shape.rows * C)
      << "RMS norm of " << C << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>(), *gamma = args.gamma.as<T>();
    const A* rstd = args.rstd.as<A>();
    T* din = args.din.as<T>();
    const Work work{.count = shape.rows, .bytes_each = 3 * C * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          BackwardRow<V>(dout + r * C, in + r * C, gamma, rstd[r], din + r * C, args.accumulate, C);
        }
      });
    });
  });
}

void RmsNormBackwardWeight(Stream& stream, const RmsNormBackwardWeightArgs& args) {
  const RowShape shape = RowShapeOf(args.in, args.rstd);
  const std::int64_t C = shape.features;
  LYCIA_CHECK(args.dgamma.elements() == C && args.dout.elements() == shape.rows * C) << "RMS norm of " << C << " features ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>();
    const A* rstd = args.rstd.as<A>();
    A* const gradients[1] = {args.dgamma.as<A>()};
    const Work work{.count = C, .unit = kElementUnit, .bytes_each = 2 * shape.rows * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        const auto terms_of = [&](std::int64_t r, auto lanes, V(&terms)[1])
                                  LYCIA_INLINE { terms[0] = lanes.Get(dout + r * C) * (lanes.Get(in + r * C) * rstd[r]); };
        AddColumnSums<1, V>(Columns{shape.rows, begin, end}, terms_of, gradients);
      });
    });
  });
}

}  // namespace lycia::cpu
