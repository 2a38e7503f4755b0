#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/parts/norm_part.h"

namespace lycia::cpu {

void RowMoments(Stream& stream, const RowMomentsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  LYCIA_CHECK_EQ(args.moments.elements(), 2 * matrix.rows);
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* in = args.in.as<T>();
    A* moments = args.moments.as<A>();
    const Work work{.count = matrix.rows, .bytes_each = 1 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const T* x = in + r * matrix.cols;
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
  LYCIA_CHECK(args.mean.elements() == R && args.rstd.elements() == R) << R << " rows ";
  DispatchFloat(args.mean.dtype, [&]<typename T>() {
    const T* moments = args.moments.as<T>();
    const T width = static_cast<T>(args.width), parts = static_cast<T>(Q);
    for (std::int64_t r = 0; r < R; ++r) {
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
  LYCIA_CHECK(args.gamma.elements() == matrix.cols && args.beta.elements() == matrix.cols && args.mean.elements() == matrix.rows)
      << args.in.shape.ToString() << " ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *gamma = args.gamma.as<T>(), *beta = args.beta.as<T>();
    const A *means = args.mean.as<A>(), *rstds = args.rstd.as<A>();
    T* out = args.out.as<T>();
    const Work work{.count = matrix.rows, .bytes_each = 2 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const A mean = means[r], rstd = rstds[r];
          const std::int64_t first = r * matrix.cols;
          ForEachVector<V>(matrix.cols, [&](auto lanes) LYCIA_INLINE {
            lanes.Put(out + first, (lanes.Get(in + first) - mean) * rstd * lanes.Get(gamma) + lanes.Get(beta));
          });
        }
      });
    });
  });
}

void NormGradientSums(Stream& stream, const NormGradientSumsArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.in);
  LYCIA_CHECK(args.dout.elements() == args.in.elements() && args.sums.elements() == 2 * matrix.rows) << args.in.shape.ToString() << " ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *dout = args.dout.as<T>(), *gamma = args.gamma.as<T>();
    const A *means = args.mean.as<A>(), *rstds = args.rstd.as<A>();
    A* sums = args.sums.as<A>();
    const Work work{.count = matrix.rows, .bytes_each = 2 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const A mean = means[r], rstd = rstds[r];
          const std::int64_t first = r * matrix.cols;
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
  LYCIA_CHECK(args.sums.elements() == 2 * Q * matrix.rows && args.din.elements() == args.in.elements()) << args.in.shape.ToString() << " ";
  DispatchStored(args.in.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T *in = args.in.as<T>(), *dout = args.dout.as<T>(), *gamma = args.gamma.as<T>();
    const A *means = args.mean.as<A>(), *rstds = args.rstd.as<A>(), *sums = args.sums.as<A>();
    T* din = args.din.as<T>();
    const A features = static_cast<A>(Q * matrix.cols);
    const Work work{.count = matrix.rows, .bytes_each = 3 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t r = begin; r < end; ++r) {
          const A mean = means[r], rstd = rstds[r];
          A mean_g = 0, mean_gh = 0;
          for (std::int64_t q = 0; q < Q; ++q) {
            mean_g += sums[2 * (q * matrix.rows + r)];
            mean_gh += sums[2 * (q * matrix.rows + r) + 1];
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
