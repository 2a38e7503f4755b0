// Batch norm on the CPU. Statistics and sums over rows: rows are cut into parts that depend on the sizes alone, threads take parts, and the
// parts are put together in their order, so that bits do not depend on threads. Statistics take one pass over memory: of some rows at a
// time, which stay in the nearest cache, the mean, then the squares about it; blocks are merged as Chan, Golub & LeVeque (1979) do.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/norm/batch_norm.h"
#include "kernels/norm/norm_rows.h"

namespace lycia::cpu {
namespace {

// Rows [G * rows, C] of G groups.
struct GroupShape {
  std::int64_t groups, rows, C;
};
GroupShape GroupsOf(const ConstTensor& in, const ConstTensor& statistic) {
  const std::int64_t C = in.shape.dim(-1), all = C == 0 ? 0 : in.elements() / C;
  LYCIA_CHECK(C > 0 && statistic.elements() % C == 0 && statistic.elements() > 0)
      << "batch norm: statistics of " << statistic.elements() << " numbers for " << C << " channels ";
  const std::int64_t groups = statistic.elements() / C;
  LYCIA_CHECK_EQ(all % groups, 0) << "batch norm: rows of " << groups << " groups ";
  return {groups, all / groups, C};
}
void CheckElements(const char* name, const ConstTensor& tensor, std::int64_t elements) {
  LYCIA_CHECK(tensor.elements() == elements) << "batch norm: " << name << " has " << tensor.elements() << " elements, not " << elements
                                             << " ";
}

// Parts that rows of a group are summed in: enough for many threads, few enough that their sums fit the least workspace.
constexpr std::int64_t kMostParts = 16, kSums = std::int64_t{1} << 15, kLeastRows = 64;
std::int64_t PartsOf(const GroupShape& s) { return std::clamp<std::int64_t>(std::min(kSums / s.C, s.rows / kLeastRows), 1, kMostParts); }
std::int64_t PartBegin(const GroupShape& s, std::int64_t part, std::int64_t parts) { return s.rows * part / parts; }

// make(part's first row, rows, sums): two rows of C numbers of the part, found anew by join(part's rows, sums) in the parts' order.
template <typename A, typename Make, typename Join>
void SumInParts(Stream& stream, const GroupShape& s, std::int64_t bytes, const Make& make, const Join& join) {
  const std::int64_t parts = PartsOf(s);
  A* const sums = reinterpret_cast<A*>(stream.pool()->workspace(0).data());
  LYCIA_CHECK_GE(static_cast<std::int64_t>(stream.pool()->workspace(0).size()), 2 * parts * s.C * static_cast<std::int64_t>(sizeof(A)))
      << "the stream's workspace (CpuOptions) is too small for a batch norm of " << s.C << " channels ";
  for (std::int64_t g = 0; g < s.groups; ++g) {
    ForEachPart(stream, {.count = parts, .bytes_each = (s.rows / parts + 1) * s.C * bytes}, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t part = begin; part < end; ++part) {
        const std::int64_t first = PartBegin(s, part, parts);
        make(g, g * s.rows + first, PartBegin(s, part + 1, parts) - first, sums + 2 * part * s.C);
      }
    });
    for (std::int64_t part = 0; part < parts; ++part) {
      const std::int64_t first = PartBegin(s, part, parts);
      join(g, first, PartBegin(s, part + 1, parts) - first, sums + 2 * part * s.C);
    }
  }
}

// mean and squares about it, [C], of rows, for channels [first, first + kVectors * lanes): some rows at a time are read twice, the second
// time from the nearest cache.
template <typename V, bool kWhole, int kVectors, typename T>
LYCIA_INLINE inline void MomentsOfVectors(const T* in, std::int64_t rows, std::int64_t C, std::int64_t first, std::int64_t count,
                                          Element<V>* moments) {
  using A = Element<V>;
  V mean[kVectors] = {}, squares[kVectors] = {};
  for (std::int64_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    const std::int64_t end = std::min(begin + kRowsAtOnce, rows);
    V sum[kVectors] = {}, about[kVectors] = {};
    for (std::int64_t r = begin; r < end; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[v] += Lanes<V, kWhole>{first + v * kLanes<V>, count}.Get(in + r * C);
    }
    for (int v = 0; v < kVectors; ++v) sum[v] /= static_cast<A>(end - begin);
    for (std::int64_t r = begin; r < end; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const V centred = Lanes<V, kWhole>{first + v * kLanes<V>, count}.Get(in + r * C) - sum[v];
        about[v] += centred * centred;
      }
    }
    const A share = static_cast<A>(end - begin) / static_cast<A>(end);
    for (int v = 0; v < kVectors; ++v) {
      const V apart = sum[v] - mean[v];
      squares[v] += about[v] + apart * apart * (static_cast<A>(begin) * share);
      mean[v] += apart * share;
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const Lanes<V, kWhole> lanes{first + v * kLanes<V>, count};
    lanes.Put(moments, mean[v]);
    lanes.Put(moments + C, squares[v]);
  }
}

// mean, squares [C] of rows.
template <typename T, typename A = Arithmetic<T>>
void MomentsOfRows(const T* in, std::int64_t rows, std::int64_t C, A* moments) {
  ForBestIsa([=](auto isa) LYCIA_INLINE {
    using V = Vector<A, decltype(isa)::value>;
    constexpr int L = kLanes<V>;
    std::int64_t c = 0;
    for (; c + kVectorsAtOnce * L <= C; c += kVectorsAtOnce * L) MomentsOfVectors<V, true, kVectorsAtOnce>(in, rows, C, c, L, moments);
    for (; c + L <= C; c += L) MomentsOfVectors<V, true, 1>(in, rows, C, c, L, moments);
    if (c < C) MomentsOfVectors<V, false, 1>(in, rows, C, c, C - c, moments);
  });
}

template <typename A>
struct ChannelScale {
  const A *mean, *rstd;  // [C] of one group
};

// One row: out = (in - mean) rstd gamma + beta + residual, at least 0 with relu.
template <typename T, typename A = Arithmetic<T>>
struct Application {
  const T *in, *gamma, *beta, *residual;
  bool relu;
  T* out;

  template <typename V>
  LYCIA_INLINE void Row(std::int64_t C, std::int64_t at, const ChannelScale<A>& of) const {
    const T *x = in + at, *more = residual + (residual == nullptr ? 0 : at), *g = gamma, *b = beta;
    T* y = out + at;
    ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
      V value = (lanes.Get(x) - lanes.Get(of.mean)) * lanes.Get(of.rstd) * lanes.Get(g) + lanes.Get(b);
      if (residual != nullptr) value += lanes.Get(more);
      if (relu) value = value < 0 ? V{} : value;
      lanes.Put(y, value);
    });
  }
};
template <typename T, typename A = Arithmetic<T>>
void Apply(Stream& stream, const GroupShape& s, const Application<T>& to, const A* mean, const A* rstd) {
  const std::int64_t C = s.C, rows = s.rows;
  ForEachPart(stream, {.count = s.groups * rows, .bytes_each = 3 * C * static_cast<std::int64_t>(sizeof(T))},
              [&](std::int64_t begin, std::int64_t end, int) {
                ForBestIsa([=](auto isa) LYCIA_INLINE {
                  using V = Vector<A, decltype(isa)::value>;
                  for (std::int64_t r = begin; r < end; ++r) {
                    const std::int64_t group = r / rows * C;
                    to.template Row<V>(C, r * C, ChannelScale<A>{mean + group, rstd + group});
                  }
                });
              });
}

template <typename T>
const T* DataOf(const ConstTensor& tensor) {
  return tensor.data == nullptr ? nullptr : tensor.as<T>();
}

// d: dout where out > 0 or no number, else 0.
template <typename V, typename L, typename T>
LYCIA_INLINE inline V Passed(const L& lanes, const T* dout, const T* relu_out, std::int64_t at) {
  const V d = lanes.Get(dout + at);
  if (relu_out == nullptr) return d;
  return lanes.Get(relu_out + at) <= 0 ? V{} : d;
}

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
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* in = args.in.as<T>();
    A *mean = args.mean.as<A>(), *rstd = args.rstd.as<A>();
    A* variance = args.variance.data == nullptr ? nullptr : args.variance.as<A>();
    // rstd holds the squares until all parts are in.
    SumInParts<A>(
        stream, s, sizeof(T),
        [&](std::int64_t, std::int64_t first, std::int64_t rows, A* sums) { MomentsOfRows(in + first * s.C, rows, s.C, sums); },
        [&](std::int64_t g, std::int64_t before, std::int64_t rows, const A* sums) {
          A *m = mean + g * s.C, *q = rstd + g * s.C;
          const A share = static_cast<A>(rows) / static_cast<A>(before + rows);
          for (std::int64_t c = 0; c < s.C; ++c) {
            const A apart = before == 0 ? 0 : sums[c] - m[c];
            m[c] = before == 0 ? sums[c] : m[c] + apart * share;
            q[c] = (before == 0 ? 0 : q[c]) + sums[s.C + c] + apart * apart * (static_cast<A>(before) * share);
          }
        });
    for (std::int64_t i = 0; i < s.groups * s.C; ++i) {
      const A of_rows = rstd[i] / static_cast<A>(s.rows);
      if (variance != nullptr) variance[i] = of_rows;
      rstd[i] = A(1) / std::sqrt(of_rows + static_cast<A>(args.eps));
    }
    Apply(stream, s, Application<T>{in, args.gamma.as<T>(), args.beta.as<T>(), DataOf<T>(args.residual), args.relu, args.out.as<T>()}, mean,
          rstd);
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
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    LYCIA_CHECK_LE(s.C * static_cast<std::int64_t>(sizeof(A)), static_cast<std::int64_t>(stream.pool()->workspace(0).size()));
    A* rstd = reinterpret_cast<A*>(stream.pool()->workspace(0).data());
    const A* variance = args.variance.as<A>();
    for (std::int64_t c = 0; c < s.C; ++c) rstd[c] = A(1) / std::sqrt(variance[c] + static_cast<A>(args.eps));
    Apply(stream, s,
          Application<T>{args.in.as<T>(), args.gamma.as<T>(), args.beta.as<T>(), DataOf<T>(args.residual), args.relu, args.out.as<T>()},
          args.mean.as<A>(), static_cast<const A*>(rstd));
  });
}

void BatchNormFold(Stream&, const BatchNormFoldArgs& args) {
  const std::int64_t C = args.gamma.elements();
  for (const ConstTensor& tensor : {args.beta, args.mean, args.variance, ConstTensor(args.scale), ConstTensor(args.bias)}) {
    CheckElements("a vector of channels", tensor, C);
  }
  DispatchStored(args.gamma.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const A *mean = args.mean.as<A>(), *variance = args.variance.as<A>();
    A *scale = args.scale.as<A>(), *bias = args.bias.as<A>();
    for (std::int64_t c = 0; c < C; ++c) {
      scale[c] = static_cast<A>(args.gamma.as<T>()[c]) / std::sqrt(variance[c] + static_cast<A>(args.eps));
      bias[c] = static_cast<A>(args.beta.as<T>()[c]) - mean[c] * scale[c];
    }
  });
}

void BatchNormUpdateRunning(Stream&, const BatchNormUpdateRunningArgs& args) {
  const std::int64_t C = args.running_mean.elements();
  CheckElements("running variance", args.running_variance, C);
  CheckElements("variance", args.variance, args.mean.elements());
  LYCIA_CHECK(C > 0 && args.mean.elements() % C == 0) << "batch norm: " << args.mean.elements() << " statistics for " << C << " channels ";
  DispatchFloat(args.running_mean.dtype, [&]<typename A>() {
    const A *mean = args.mean.as<A>(), *variance = args.variance.as<A>();
    A *running_mean = args.running_mean.as<A>(), *running_variance = args.running_variance.as<A>();
    const A momentum = static_cast<A>(args.momentum), rows = static_cast<A>(args.rows);
    const A unbiased = args.rows > 1 ? rows / (rows - 1) : A(1);
    for (std::int64_t i = 0; i < args.mean.elements(); ++i) {
      const std::int64_t c = i % C;
      running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean[i];
      running_variance[c] = (1 - momentum) * running_variance[c] + momentum * (variance[i] * unbiased);
    }
  });
}

void BatchNormBackwardSums(Stream& stream, const BatchNormBackwardSumsArgs& args) {
  if (args.in.elements() == 0) return;
  const GroupShape s = GroupsOf(args.in, args.mean);
  CheckElements("dout", args.dout, args.in.elements());
  CheckElements("rstd", args.rstd, s.groups * s.C);
  CheckElements("sum_d", args.sum_d, s.groups * s.C);
  CheckElements("sum_dn", args.sum_dn, s.groups * s.C);
  if (args.relu_out.data != nullptr) CheckElements("relu_out", args.relu_out, args.in.elements());
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>(), *relu_out = DataOf<T>(args.relu_out);
    const A *mean = args.mean.as<A>(), *rstd = args.rstd.as<A>();
    A *sum_d = args.sum_d.as<A>(), *sum_dn = args.sum_dn.as<A>();
    const std::int64_t C = s.C;
    SumInParts<A>(
        stream, s, 2 * sizeof(T),
        [&](std::int64_t g, std::int64_t first, std::int64_t rows, A* sums) {
          std::fill_n(sums, 2 * C, A(0));
          A* const to[2] = {sums, sums + C};
          const A *m = mean + g * C, *q = rstd + g * C;
          ForBestIsa([=](auto isa) LYCIA_INLINE {
            using V = Vector<A, decltype(isa)::value>;
            AddColumnSums<2, V>(
                Columns{rows, 0, C},
                [&](std::int64_t r, auto lanes, V(&terms)[2]) LYCIA_INLINE {
                  const std::int64_t at = (first + r) * C;
                  terms[0] = Passed<V>(lanes, dout, relu_out, at);
                  terms[1] = terms[0] * ((lanes.Get(in + at) - lanes.Get(m)) * lanes.Get(q));
                },
                to);
          });
        },
        [&](std::int64_t g, std::int64_t before, std::int64_t, const A* sums) {
          for (std::int64_t c = 0; c < C; ++c) {
            sum_d[g * C + c] = (before == 0 ? 0 : sum_d[g * C + c]) + sums[c];
            sum_dn[g * C + c] = (before == 0 ? 0 : sum_dn[g * C + c]) + sums[C + c];
          }
        });
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
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *dout = args.dout.as<T>(), *in = args.in.as<T>(), *gamma = args.gamma.as<T>(), *relu_out = DataOf<T>(args.relu_out);
    const A *mean = args.mean.as<A>(), *rstd = args.rstd.as<A>(), *sum_d = args.sum_d.as<A>(), *sum_dn = args.sum_dn.as<A>();
    T *din = args.din.as<T>(), *dresidual = args.dresidual.data == nullptr ? nullptr : args.dresidual.as<T>();
    const std::int64_t C = s.C, rows = s.rows;
    const A share = A(1) / static_cast<A>(rows);
    const bool accumulate = args.accumulate;
    ForEachPart(stream, {.count = s.groups * rows, .bytes_each = 4 * C * static_cast<std::int64_t>(sizeof(T))},
                [&](std::int64_t begin, std::int64_t end, int) {
                  ForBestIsa([=](auto isa) LYCIA_INLINE {
                    using V = Vector<A, decltype(isa)::value>;
                    for (std::int64_t r = begin; r < end; ++r) {
                      const std::int64_t g = r / rows * C, at = r * C;
                      ForEachVector<V>(C, [&](auto lanes) LYCIA_INLINE {
                        const V d = Passed<V>(lanes, dout, relu_out, at), q = lanes.Get(rstd + g);
                        const V n = (lanes.Get(in + at) - lanes.Get(mean + g)) * q;
                        const V gradient = lanes.Get(gamma) * q * (d - lanes.Get(sum_d + g) * share - n * (lanes.Get(sum_dn + g) * share));
                        const V before = accumulate ? lanes.Get(din + at) : V{};
                        if (dresidual != nullptr) lanes.Put(dresidual + at, d);
                        lanes.Put(din + at, before + gradient);
                      });
                    }
                  });
                });
  });
}

void BatchNormBackwardWeight(Stream&, const BatchNormBackwardWeightArgs& args) {
  const std::int64_t C = args.dgamma.elements();
  CheckElements("dbeta", args.dbeta, C);
  CheckElements("sum_dn", args.sum_dn, args.sum_d.elements());
  LYCIA_CHECK(C > 0 && args.sum_d.elements() % C == 0) << "batch norm: " << args.sum_d.elements() << " sums for " << C << " channels ";
  DispatchFloat(args.dgamma.dtype, [&]<typename A>() {
    const A *sum_d = args.sum_d.as<A>(), *sum_dn = args.sum_dn.as<A>();
    A *dgamma = args.dgamma.as<A>(), *dbeta = args.dbeta.as<A>();
    for (std::int64_t i = 0; i < args.sum_d.elements(); ++i) {
      dgamma[i % C] += sum_dn[i];
      dbeta[i % C] += sum_d[i];
    }
  });
}

}  // namespace lycia::cpu
