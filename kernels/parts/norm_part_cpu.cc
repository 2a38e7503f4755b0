#include <cmath>

#include "kernels/parts/norm_part.h"

namespace lycia::cpu {

void RowMoments(const RowMomentsArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  LYCIA_CHECK_EQ(args.moments.elements(), 2 * in.rows);
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < in.rows; ++r) {
      const T* x = args.in.as<T>() + r * in.cols;
      T sum = 0, squares = 0;
      for (std::int64_t c = 0; c < in.cols; ++c) sum += x[c];
      const T mean = sum / static_cast<T>(in.cols);
      for (std::int64_t c = 0; c < in.cols; ++c) squares += (x[c] - mean) * (x[c] - mean);
      T* moments = args.moments.as<T>() + 2 * r;
      moments[0] = mean;
      moments[1] = squares;
    }
  });
}

// Of parts of one width: the mean is the mean of means; the squares about it are the parts' own and width (mean of the part - mean)² each.
void MergeRowMoments(const MergeRowMomentsArgs& args) {
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

void NormalisePart(const NormalisePartArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  LYCIA_CHECK(args.gamma.elements() == in.cols && args.beta.elements() == in.cols && args.mean.elements() == in.rows)
      << args.in.shape.ToString() << " ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < in.rows; ++r) {
      const T mean = args.mean.as<T>()[r], rstd = args.rstd.as<T>()[r];
      for (std::int64_t c = 0; c < in.cols; ++c) {
        args.out.as<T>()[r * in.cols + c] = (args.in.as<T>()[r * in.cols + c] - mean) * rstd * args.gamma.as<T>()[c] + args.beta.as<T>()[c];
      }
    }
  });
}

void NormGradientSums(const NormGradientSumsArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  LYCIA_CHECK(args.dout.elements() == args.in.elements() && args.sums.elements() == 2 * in.rows) << args.in.shape.ToString() << " ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < in.rows; ++r) {
      const T mean = args.mean.as<T>()[r], rstd = args.rstd.as<T>()[r];
      T sum_g = 0, sum_gh = 0;
      for (std::int64_t c = 0; c < in.cols; ++c) {
        const T g = args.dout.as<T>()[r * in.cols + c] * args.gamma.as<T>()[c];
        sum_g += g;
        sum_gh += g * (args.in.as<T>()[r * in.cols + c] - mean) * rstd;
      }
      args.sums.as<T>()[2 * r] = sum_g;
      args.sums.as<T>()[2 * r + 1] = sum_gh;
    }
  });
}

void NormPartBackwardInput(const NormPartBackwardInputArgs& args) {
  const ConstMatrix in = AsMatrix(args.in);
  const std::int64_t Q = args.sums.shape[0];
  LYCIA_CHECK(args.sums.elements() == 2 * Q * in.rows && args.din.elements() == args.in.elements()) << args.in.shape.ToString() << " ";
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const T features = static_cast<T>(Q * in.cols);
    for (std::int64_t r = 0; r < in.rows; ++r) {
      const T mean = args.mean.as<T>()[r], rstd = args.rstd.as<T>()[r];
      T mean_g = 0, mean_gh = 0;
      for (std::int64_t q = 0; q < Q; ++q) {
        mean_g += args.sums.as<T>()[2 * (q * in.rows + r)];
        mean_gh += args.sums.as<T>()[2 * (q * in.rows + r) + 1];
      }
      mean_g /= features;
      mean_gh /= features;
      for (std::int64_t c = 0; c < in.cols; ++c) {
        const std::int64_t i = r * in.cols + c;
        const T g = args.dout.as<T>()[i] * args.gamma.as<T>()[c], h = (args.in.as<T>()[i] - mean) * rstd;
        const T din = rstd * (g - mean_g - h * mean_gh);
        args.din.as<T>()[i] = args.accumulate ? args.din.as<T>()[i] + din : din;
      }
    }
  });
}

}  // namespace lycia::cpu
