#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/parts/norm_part.h"

namespace lycia::cpu {
namespace {

// body.operator()<T, kRms>() for the type of stored elements and the kind of norm.
template <typename Body>
void DispatchNorm(DType dtype, bool rms, const Body& body) {
  DispatchStored(dtype, [&]<typename T>() { rms ? body.template operator()<T, true>() : body.template operator()<T, false>(); });
}

}  // namespace

void RowMoments(Stream& stream, const RowMomentsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const bool rms = args.moments.shape.dim(-1) == NumbersOfRow(true);
  LYCIA_CHECK_EQ(args.moments.elements(), NumbersOfRow(rms) * matrix.rows);
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    using A = Arithmetic<T>;
    const T* in = args.in.as<T>();
    A* moments = args.moments.as<A>();
    const Work work{.count = matrix.rows, .bytes_each = 1 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const T* x = in + r * matrix.cols;
          if constexpr (kRms) {
            moments[r] = SumVectors<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE { return lanes.Get(x) * lanes.Get(x); });
            continue;
          }
          const A mean = SumVectors<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE { return lanes.Get(x); }) / static_cast<A>(matrix.cols);
          moments[2 * r] = mean;
          moments[2 * r + 1] = SumVectors<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE {
            const V centred = lanes.Get(x) - mean;
            return centred * centred;
          });
        }
      });
    });
  });
}

// Of parts of one width: the mean is the mean of means; the squares about it are the parts' own and width (mean of the part - mean)² each.
void MergeRowMoments(Stream&, const MergeRowMomentsArgs& args) {
  const std::int64_t Q = args.moments.shape[0], R = args.moments.shape[1];
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.moments.shape[2] == NumbersOfRow(rms) && args.rstd.elements() == R) << args.moments.shape.ToString() << " ";
  DispatchFloat(args.rstd.dtype, [&]<typename T>() {
    const T* moments = args.moments.as<T>();
    const T width = static_cast<T>(args.width), parts = static_cast<T>(Q);
    for (std::int64_t r = 0; r < R; ++r) {
      if (rms) {
        T squares = 0;
        for (std::int64_t q = 0; q < Q; ++q) squares += moments[q * R + r];
        args.rstd.as<T>()[r] = T(1) / std::sqrt(squares / (width * parts) + static_cast<T>(args.eps));
        continue;
      }
      T mean = 0, squares = 0;
      for (std::int64_t q = 0; q < Q; ++q) mean += moments[2 * (q * R + r)];
      mean /= parts;
      for (std::int64_t q = 0; q < Q; ++q) {
        const T apart = moments[2 * (q * R + r)] - mean;
        squares += moments[2 * (q * R + r) + 1] + width * apart * apart;
      }
      args.mean.as<T>()[r] = mean;
      args.rstd.as<T>()[r] = T(1) / std::sqrt(squares / (width * parts) + static_cast<T>(args.eps));
    }
  });
}

void NormalisePart(Stream& stream, const NormalisePartArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.gamma.elements() == matrix.cols && (args.beta.data == nullptr) == rms && args.rstd.elements() == matrix.rows)
      << args.in.shape.ToString() << " ";
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *gamma = args.gamma.as<T>(), *beta = kRms ? nullptr : args.beta.as<T>();
    const A *means = kRms ? nullptr : args.mean.as<A>(), *rstds = args.rstd.as<A>();
    T* out = args.out.as<T>();
    const Work work{.count = matrix.rows, .bytes_each = 2 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const A mean = kRms ? A(0) : means[r], rstd = rstds[r];
          const std::int64_t first = r * matrix.cols;
          ForEachVector<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE {
            const V x = lanes.Get(in + first);
            if constexpr (kRms) {
              lanes.Put(out + first, x * rstd * lanes.Get(gamma));
            } else {
              lanes.Put(out + first, (x - mean) * rstd * lanes.Get(gamma) + lanes.Get(beta));
            }
          });
        }
      });
    });
  });
}

void NormGradientSums(Stream& stream, const NormGradientSumsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.dout.elements() == args.in.elements() && args.sums.elements() == NumbersOfRow(rms) * matrix.rows)
      << args.in.shape.ToString() << " ";
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *dout = args.dout.as<T>(), *gamma = args.gamma.as<T>();
    const A *means = kRms ? nullptr : args.mean.as<A>(), *rstds = args.rstd.as<A>();
    A* sums = args.sums.as<A>();
    const Work work{.count = matrix.rows, .bytes_each = 2 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const std::int64_t first = r * matrix.cols;
          if constexpr (kRms) {
            sums[r] = SumVectors<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE {
              return lanes.Get(dout + first) * lanes.Get(gamma) * (lanes.Get(in + first) * rstds[r]);
            });
            continue;
          }
          const A mean = kRms ? A(0) : means[r], rstd = rstds[r];
          const Pair<A> row = SumVectorPairs<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE {
            const V g = lanes.Get(dout + first) * lanes.Get(gamma);
            return Pair<V>{g, g * ((lanes.Get(in + first) - mean) * rstd)};
          });
          sums[2 * r] = row.first;
          sums[2 * r + 1] = row.second;
        }
      });
    });
  });
}

void NormPartBackwardInput(Stream& stream, const NormPartBackwardInputArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  const std::int64_t Q = args.sums.shape[0];
  const bool rms = args.mean.data == nullptr;
  LYCIA_CHECK(args.sums.elements() == NumbersOfRow(rms) * Q * matrix.rows && args.din.elements() == args.in.elements())
      << args.in.shape.ToString() << " ";
  DispatchNorm(args.in.dtype, rms, [&]<typename T, bool kRms>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *dout = args.dout.as<T>(), *gamma = args.gamma.as<T>();
    const A *means = kRms ? nullptr : args.mean.as<A>(), *rstds = args.rstd.as<A>(), *sums = args.sums.as<A>();
    T* din = args.din.as<T>();
    const A features = static_cast<A>(Q * matrix.cols);
    const Work work{.count = matrix.rows, .bytes_each = 3 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const A mean = kRms ? A(0) : means[r], rstd = rstds[r];
          constexpr std::int64_t kNumbers = NumbersOfRow(kRms);
          A mean_g = 0, mean_gh = 0;
          for (std::int64_t q = 0; q < Q; ++q) {
            const A* of_part = sums + kNumbers * (q * matrix.rows + r);
            if constexpr (!kRms) mean_g += of_part[0];
            mean_gh += of_part[kNumbers - 1];
          }
          mean_g /= features;
          mean_gh /= features;
          const std::int64_t first = r * matrix.cols;
          ForEachVector<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE {
            const V g = lanes.Get(dout + first) * lanes.Get(gamma), h = (lanes.Get(in + first) - mean) * rstd;
            const V gradient = rstd * (g - mean_g - h * mean_gh);
            lanes.Put(din + first, args.accumulate ? lanes.Get(din + first) + gradient : gradient);
          });
        }
      });
    });
  });
}

}  // namespace lycia::cpu
